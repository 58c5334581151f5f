/**
 * `npm run sim -- --seeds N [--seed S] [--jobs J] [--bug NAME]`: runs N seeds from S on; a failing one
 * is shrunk and told in words. `--seed S` alone tells one run, `--script …` one that was shrunk.
 */
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { BUILD, type Build } from './build.ts';
import { Choices } from './choices.ts';
import { MUTANTS } from './mutants.ts';
import { run } from './run.ts';
import { shrink } from './shrink.ts';
import type { Failed, Swept } from './sweep.ts';
import { parseScript, scriptText, trace } from './trace.ts';
import type { Part } from './worker.ts';

const PART_SEEDS = 5_000;
const FAILURES_MAX = 5;
const PROGRESS_MS = 10_000;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    seed: { type: 'string', default: '0' },
    jobs: { type: 'string', default: '1' },
    bug: { type: 'string' },
    script: { type: 'string' },
  },
});

const bugs = Object.keys(MUTANTS);
if (values.bug !== undefined && !bugs.includes(values.bug)) {
  console.error(`no planted bug of that name; there are:\n  ${bugs.join('\n  ')}`);
  process.exit(2);
}
const build: Build = (values.bug === undefined ? undefined : MUTANTS[values.bug]) ?? BUILD;
const first = Number(values.seed);

function tell({ seed, broken }: Failed): void {
  const choices = Choices.recorded(seed);
  run(choices, build);
  const script = shrink(choices.taken, build);
  console.log(`\nseed ${seed}: ${broken}\n${trace(script, build).join('\n')}`);
  console.log(`again: npm run sim -- --script ${scriptText(script)}`);
}

/** Each worker takes the next part as soon as it is done with one. */
async function sweepAll(seeds: number, jobs: number): Promise<readonly Failed[]> {
  const startedAtMs = performance.now();
  const failed: Failed[] = [];
  let next = first;
  let done = 0;
  let steps = 0;
  const line = () => {
    const seconds = (performance.now() - startedAtMs) / 1000;
    const each = ((1000 * seconds) / Math.max(done, 1)).toFixed(3);
    return `${done} seeds, ${steps} steps, ${failed.length} failed, ${seconds.toFixed(0)} s, ${each} ms a seed`;
  };
  const progress = setInterval(() => console.log(line()), PROGRESS_MS);
  const work = async (): Promise<void> => {
    const worker = new Worker(new URL('worker.ts', import.meta.url));
    while (next < first + seeds && failed.length < FAILURES_MAX) {
      const count = Math.min(PART_SEEDS, first + seeds - next);
      const part: Part = { from: next, count, failuresMax: FAILURES_MAX, bug: values.bug };
      next += count;
      const swept = await new Promise<Swept>((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
        worker.postMessage(part, []);
      });
      worker.removeAllListeners('error');
      done += count;
      steps += swept.steps;
      for (const { seed, broken } of swept.failed) console.log(`seed ${seed}: ${broken}`);
      failed.push(...swept.failed);
    }
    await worker.terminate();
  };
  await Promise.all(Array.from({ length: jobs }, work));
  clearInterval(progress);
  console.log(line());
  return failed;
}

if (values.script !== undefined) {
  console.log(trace(parseScript(values.script), build).join('\n'));
} else if (values.seeds === undefined) {
  const choices = Choices.recorded(first);
  run(choices, build);
  console.log(trace(choices.taken, build).join('\n'));
} else {
  const failed = await sweepAll(Number(values.seeds), Number(values.jobs));
  for (const failure of failed.slice(0, FAILURES_MAX)) tell(failure);
  process.exitCode = failed.length === 0 ? 0 : 1;
}
