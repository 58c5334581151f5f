/** Faults where an accident came before: the prepared guest died, or the source before it surrendered. */
import { test } from 'tap';
import { pass } from './cells.ts';
import { ROWS, someOfEach } from './matrix.ts';

void test('a fault after an accident', async (t) => {
  const rows = ROWS.filter(({ course }) => course.accident !== undefined);
  await pass(t, someOfEach(rows, 1));
});
