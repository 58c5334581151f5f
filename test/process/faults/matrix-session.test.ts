/**
 * A fault at every step of a session, up to where the destination prepares: one at each, in turns, as
 * all end in the same abort.
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
  await pass(t, someOfEach(rowsBetween('source.connect', 'destination.prepare'), 1));
});
