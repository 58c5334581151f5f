/** Faults at every step that comes after the activation. */
import { test } from 'tap';
import { pass } from './cells.ts';
import { rowsBetween, someOfEach } from './matrix.ts';

void test('a fault at any step after the activation', async (t) => {
  await pass(t, someOfEach(rowsBetween('destination-handover.startGuest'), 1));
});
