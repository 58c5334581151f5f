/** Faults at every step of the handover, from where the destination prepares to where it activates. */
import { test } from 'tap';
import { pass } from './cells.ts';
import { rowsBetween, someOfEach } from './matrix.ts';

void test('a fault at any step up to the activation', async (t) => {
  const rows = rowsBetween('destination.prepare', 'destination-handover.startGuest');
  await pass(t, someOfEach(rows, 2));
});
