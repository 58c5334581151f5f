/** Daemons killed at steps drawn by chance, also while they recover (by hand: `npm run kills`). */
import { test } from 'tap';
import { Field } from './field.ts';
import { chance, stepsOf, strike } from './kills.ts';

const KILLS = 20;
const SEED = 20_261_123;

void test(`${KILLS} kills drawn by chance`, async (t) => {
  await using field = await Field.start();
  const steps = await stepsOf(field);
  const draw = chance(SEED);
  let killed = 0;
  while (killed < KILLS) {
    const { kills, runsAt, wrongs } = await strike(field, steps, draw);
    killed += kills.length;
    t.same(wrongs, [], `runs at the ${runsAt}: ${kills.join(', ')}`);
  }
  t.same(await field.leftOpen(), [], 'every migration on record is at its end');
});
