/**
 * The shortest script found that breaks the same invariant: faults are dropped, in ever smaller
 * parts, then made milder, then moved to where they come earlier.
 */
import type { Build } from './build.ts';
import { Choices, type Script } from './choices.ts';
import { run } from './run.ts';

type Entry = readonly [position: number, value: number];

const TRIES_MAX = 20_000;

const STRIDES = [64, 16, 4, 1] as const;

/** What an invariant is called, without the particulars. */
const nameOf = (broken: string | undefined): string | undefined => broken?.split(':', 1)[0];

export function shrink(script: Script, build: Build): Script {
  const wanted = nameOf(run(Choices.ofScript(script), build).broken);
  let best: readonly Entry[] = [...script];
  let tries = 0;
  /** Keeps `candidate`, or what it really used of it, if it breaks the same. */
  const improves = (candidate: readonly Entry[]): boolean => {
    if (tries >= TRIES_MAX) return false;
    tries += 1;
    const choices = Choices.ofScript(new Map(candidate));
    if (nameOf(run(choices, build).broken) !== wanted) return false;
    best = [...choices.taken];
    return true;
  };
  const passes = (): boolean => {
    const before = weight(best);
    drop(() => best, improves);
    soften(() => best, improves);
    advance(() => best, improves);
    return weight(best) < before;
  };
  while (passes());
  return new Map(best);
}

/** Fewer and milder faults, and earlier ones, weigh less. */
const weight = (entries: readonly Entry[]): number =>
  entries.reduce((sum, [position, value]) => sum + 1_000_000 + 10_000 * value + position, 0);

type Best = () => readonly Entry[];
type Improves = (candidate: readonly Entry[]) => boolean;

function drop(best: Best, improves: Improves): void {
  for (let size = Math.ceil(best().length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < best().length;) {
      if (!improves(best().toSpliced(at, size))) at += size;
    }
  }
}

function soften(best: Best, improves: Improves): void {
  for (let at = 0; at < best().length; at += 1) {
    const [position, value] = best()[at] ?? [0, 0];
    for (let milder = 1; milder < value; milder += 1) {
      if (improves(best().with(at, [position, milder]))) break;
    }
  }
}

function advance(best: Best, improves: Improves): void {
  for (let at = 0; at < best().length; at += 1) {
    for (const stride of STRIDES) {
      const moved = () =>
        best().map(([position, value], index): Entry =>
          index < at ? [position, value] : [position - stride, value],
        );
      const previous = () => best()[at - 1]?.[0] ?? -1;
      while ((best()[at]?.[0] ?? 0) - stride > previous() && improves(moved()));
    }
  }
}
