/**
 * `npm run matrix`: plays every cell and writes the page of what came of each; over the data plane that
 * `MIGD_TEST_PLANE` says (plane.ts).
 */
import { writeFileSync } from 'node:fs';
import { Field } from './field.ts';
import { cellsOf, expected, play, ROWS, titleOf, type Outcome } from './matrix.ts';
import { matrixPage, PAGE } from './matrix-page.ts';

const outcomes = new Map<string, Outcome>();
const wrong: string[] = [];
const cells = ROWS.flatMap((row) => cellsOf(row));

let field = await Field.start();
try {
  for (const [i, cell] of cells.entries()) {
    const title = titleOf(cell);
    const begunAt = performance.now();
    try {
      const { outcome, wrongs } = await play(field, cell);
      outcomes.set(title, outcome);
      wrong.push(...wrongs.map((each) => `${title}: ${each}`));
      if (outcome !== expected(cell)) wrong.push(`${title}: it runs at the ${outcome}`);
    } catch (thrown) {
      wrong.push(`${title}: ${String(thrown)}\n${field.logs()}`);
      await field[Symbol.asyncDispose]();
      field = await Field.start();
    }
    const tookMs = Math.round(performance.now() - begunAt);
    console.log(`${i + 1}/${cells.length} ${title}: ${outcomes.get(title)} (${tookMs} ms)`);
  }
  wrong.push(...(await field.leftOpen()));
} finally {
  await field[Symbol.asyncDispose]();
}

if (wrong.length === 0) {
  writeFileSync(
    PAGE,
    matrixPage((cell) => outcomes.get(titleOf(cell)) ?? expected(cell)),
  );
} else {
  console.error(wrong.join('\n'));
  process.exitCode = 1;
}
