/**
 * The deterministic simulation of two hosts (run.ts, world.ts): whatever crashes, is lost,
 * late or fails, every invariant of docs/protocol.md holds after every step, and everything settles.
 */
import { t, test } from 'tap';
import { BUILD } from './build.ts';
import { Choices } from './choices.ts';
import { Coverage, UNREACHABLE } from './coverage.ts';
import { run } from './run.ts';
import { shrink } from './shrink.ts';
import { sweep } from './sweep.ts';
import { trace } from './trace.ts';

const SEEDS = 100_000;

/** A minute of one core; beside other tests it is a share of one. */
const FILE_MS_MAX = 900_000;
t.setTimeout(FILE_MS_MAX);

/** A failing seed as it is told: shrunk. */
function story(seed: number): readonly string[] {
  const choices = Choices.recorded(seed);
  run(choices);
  return trace(shrink(choices.taken, BUILD), BUILD);
}

void test('whatever happens to two hosts: one life, no loss, and everything settles', async (t) => {
  const coverage = new Coverage();
  const startedAtMs = performance.now();
  const { steps, failed } = sweep({ from: 1, count: SEEDS, failuresMax: 3 }, BUILD, coverage);
  const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(0);
  t.comment(`${SEEDS} seeds, ${steps} steps, ${coverage.states} states, ${seconds} s`);
  for (const { seed, broken } of failed) t.fail(`seed ${seed}: ${broken}`, { story: story(seed) });
  t.same(failed, []);

  t.same(coverage.statesMissed, [], 'every state of the handover is entered');
  t.same(coverage.missed, UNREACHABLE, 'and every rule taken that honest hosts can lead to');
});

void test('without a fault a migration goes well', async (t) => {
  t.equal(run(Choices.ofScript(new Map())).broken, undefined);
});
