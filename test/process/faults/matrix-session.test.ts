/**
 * A fault at the steps of a session, up to where the destination prepares: one at every second, in
 * turns, as all end in the same abort, and after one step is before the next.
 */
import { readFileSync } from 'node:fs';
import { test } from 'tap';
import { pass } from './cells.ts';
import { matrixPage, PAGE } from './matrix-page.ts';
import { expected, someOfEach, rowsBetween } from './matrix.ts';

void test('the page is what is expected of the cells', async (t) => {
  t.equal(readFileSync(PAGE, 'utf8'), matrixPage(expected));
});

void test('a fault at any step of the session', async (t) => {
  const rows = rowsBetween('source.connect', 'destination.prepare');
  await pass(
    t,
    someOfEach(
      rows.filter((_, i) => i % 2 === 0),
      1,
    ),
  );
});
