/** Many seeds, one after the other. */
import type { Build } from './build.ts';
import { Choices } from './choices.ts';
import { run } from './run.ts';
import type { Observer } from './world.ts';

export interface Swept {
  readonly steps: number;
  readonly failed: readonly Failed[];
}

export interface Failed {
  readonly seed: number;
  readonly broken: string;
}

/** Runs `count` seeds from `from` on; ends early when `failuresMax` of them failed. */
export function sweep(
  { from, count, failuresMax }: { from: number; count: number; failuresMax: number },
  build: Build,
  observer: Observer,
): Swept {
  const failed: Failed[] = [];
  let steps = 0;
  for (let seed = from; seed < from + count && failed.length < failuresMax; seed += 1) {
    const verdict = run(Choices.ofSeed(seed), build, observer);
    steps += verdict.steps;
    if (verdict.broken !== undefined) failed.push({ seed, broken: verdict.broken });
  }
  return { steps, failed };
}
