/** Whoever is killed, or whatever is cut, when it runs at the destination and its pages are at the source. */
import { test } from 'tap';
import { pass } from './cells.ts';
import { COURSES, rowsOf, someOfEach } from './matrix.ts';

void test('the matrix: it runs there before its pages come', (t) =>
  pass(t, someOfEach(rowsOf(COURSES.find(({ options }) => options?.mode === 'post-copy')), 1)));
