/** Whoever is killed, or whatever is cut, when it runs at the destination and its pages are at the source. */
import { test } from 'tap';
import { pass } from './cells.ts';
import { COURSES, rowsOf, someOfEach } from './matrix.ts';

void test('the matrix: it runs there before its pages come', (t) => {
  const rows = rowsOf(COURSES.find(({ options }) => options?.mode === 'post-copy'));
  // By hand all of them: `npm run matrix`.
  return pass(
    t,
    someOfEach(
      rows.filter((_, i) => i % 2 === 0),
      1,
    ),
  );
});
