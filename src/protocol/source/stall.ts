/**
 * Whether rounds shrink. A round that left as much to send as it began with proves little: the
 * bandwidth dipped, or the guest wrote a burst. Several in a row prove that the guest writes faster
 * than can be sent. Pure arithmetic on the rounds so far.
 */
import { MiB, PAGE_BYTES } from '../../base/units.ts';

/** What one round tells: pages owed to the destination when it began and when it had arrived. */
export interface RoundFacts {
  readonly owedBefore: number;
  readonly owedAfter: number;
  /** Whether a deadline slowed it down: then it shows no more than what was asked for. */
  readonly isPaced: boolean;
}

/** What a row of rounds must look like to prove something. */
interface Row {
  readonly rounds: number;
  /** Each leaves at least this of what it began with. */
  readonly leavesShare: number;
}
/** A smaller round measures what a round costs, not how fast the guest writes. */
const TELLING_PAGES = MiB / PAGE_BYTES;

/** Then the guest is throttled, where that is allowed: rounds shrink too slowly, or not at all. */
export const THROTTLING: Row = { rounds: 3, leavesShare: 3 / 4 };
/** Then it is given up. The guest may only be busy for a while, and nothing is lost by trying on. */
export const HOPELESS: Row = { rounds: 10, leavesShare: 9 / 10 };

/** Whether the last rounds are such a row; those that tell nothing are passed over. */
export function endsIn(row: Row, rounds: readonly RoundFacts[]): boolean {
  const last = rounds
    .filter(({ owedBefore, isPaced }) => !isPaced && owedBefore >= TELLING_PAGES)
    .slice(-row.rounds);
  return (
    last.length === row.rounds &&
    last.every(({ owedBefore, owedAfter }) => owedAfter >= row.leavesShare * owedBefore)
  );
}

/** The history to judge by after one more round: no longer than any judgement needs. */
export const remembered = (
  rounds: readonly RoundFacts[],
  round: RoundFacts,
): readonly RoundFacts[] => [...rounds, round].slice(-HOPELESS.rounds);

const FIRST_STEP_PERCENT = 20;
const STEP_PERCENT = 10;
export const THROTTLE_PERCENT_MAX = 99;

/** The next step of the throttle, in per cent of the guest's time: 20, 30 … 90, 99. */
export const throttledFurther = (percent: number): number =>
  percent === 0 ? FIRST_STEP_PERCENT : Math.min(percent + STEP_PERCENT, THROTTLE_PERCENT_MAX);

/** After a step two more rounds are to show what it did; what was before counts as one. */
export const afterStep = (rounds: readonly RoundFacts[]): readonly RoundFacts[] => rounds.slice(-1);
