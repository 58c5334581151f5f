/** Cells of the matrix as tests: they share one pair of hosts for as long as they pass. */
import type { Test } from 'tap';
import { PLANE, planeTitle, PLANES } from '../plane.ts';
import { Field } from './field.ts';
import { expected, play, titleOf, type Cell } from './matrix.ts';

export async function pass(t: Test, cells: readonly Cell[]): Promise<void> {
  let field = await Field.start();
  try {
    for (const [i, cell] of cells.entries()) {
      // Over every data plane, in turns.
      const plane = PLANES[i % PLANES.length] ?? PLANE;
      await t.test(`${titleOf(cell)}, over ${planeTitle(plane)}`, async (t) => {
        field.plane = plane;
        const wrongs = await wrongsOf(field, cell);
        t.same(wrongs, []);
        if (wrongs.length === 0) return;
        // What failed here must not make the next one fail.
        t.comment(field.logs());
        await field[Symbol.asyncDispose]();
        field = await Field.start();
      });
    }
    t.same(await field.leftOpen(), [], 'every migration on record is at its end');
  } finally {
    await field[Symbol.asyncDispose]();
  }
}

async function wrongsOf(field: Field, cell: Cell): Promise<readonly string[]> {
  try {
    const { outcome, wrongs } = await play(field, cell);
    return outcome === expected(cell) ? wrongs : [...wrongs, `it runs at the ${outcome}`];
  } catch (thrown) {
    return [String(thrown)];
  }
}
