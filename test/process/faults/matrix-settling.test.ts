/** Every fault at every step that comes after the activation. */
import { test } from 'tap';
import { pass } from './cells.ts';
import { cellsOf, rowsBetween } from './matrix.ts';

void test('a fault at any step after the activation', async (t) => {
  const rows = rowsBetween('destination-handover.startGuest');
  await pass(
    t,
    rows.flatMap((row) => cellsOf(row)),
  );
});
