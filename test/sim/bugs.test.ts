/** Bugs are planted in the simulation one at a time: it finds each, and tells it in few words. */
import { test } from 'tap';
import { Choices } from './choices.ts';
import { MUTANTS } from './mutants.ts';
import { run } from './run.ts';
import { shrink } from './shrink.ts';
import { sweep } from './sweep.ts';
import { parseScript, scriptText } from './trace.ts';

/** Each is found long before. */
const SEEDS_PER_BUG = 20_000;

const NOBODY = { stepped: () => undefined };

void test('every planted bug is found', async (t) => {
  for (const [name, build] of Object.entries(MUTANTS)) {
    const [first] = sweep({ from: 1, count: SEEDS_PER_BUG, failuresMax: 1 }, build, NOBODY).failed;
    t.ok(first !== undefined, name);
    if (first !== undefined) t.comment(`${name}: seed ${first.seed}, ${first.broken}`);
  }
});

void test('a failing seed fails again, and is shrunk to a story of a few faults', async (t) => {
  const bug = MUTANTS['D activates on a timer'];
  if (bug === undefined) throw new Error('no such bug');
  const [first] = sweep({ from: 1, count: SEEDS_PER_BUG, failuresMax: 1 }, bug, NOBODY).failed;
  if (first === undefined) throw new Error('not found');
  const choices = Choices.recorded(first.seed);
  t.equal(run(choices, bug).broken, first.broken, 'the same seed');
  const shrunk = shrink(choices.taken, bug);
  t.ok(shrunk.size <= 6, `${shrunk.size} of ${choices.taken.size} faults are left`);
  t.equal(run(Choices.ofScript(shrunk), bug).broken, first.broken);
  t.same(parseScript(scriptText(shrunk)), shrunk, 'it can be written down');
  t.equal(run(Choices.ofScript(shrunk)).broken, undefined, 'and what is not broken withstands it');
});
