/**
 * What the rounds of a migration have shown so far, and what was done about it. It belongs to the
 * migration and not to a session: one that breaks is followed by another on the same course.
 */
import { PAGE_BYTES } from '../../base/units.ts';
import { bandwidthAfter, deferrablePages, predictedDowntimeMs, type Cost } from './convergence.ts';
import {
  firstRound,
  nextRound,
  type Pacing,
  type Standing,
  type Terms,
  wasHeldBack,
} from './deadline.ts';
import {
  afterStep,
  endsIn,
  remembered,
  throttledFurther,
  THROTTLE_PERCENT_MAX,
  THROTTLING,
  type RoundFacts,
} from './stall.ts';
import type { Effect, Event, Plan, RoundSent } from './state.ts';

export interface Course {
  /** Bytes of pages a second of the last round that was long enough to tell; 0 before. */
  readonly bandwidthBps: number;
  readonly rounds: readonly RoundFacts[];
  /** Of its time the guest is kept from running. */
  readonly throttlePercent: number;
  /** The time is over and the rest is to be sent with the guest standing still. */
  readonly isTimeOver: boolean;
  /** Null without a deadline, and before the first round. */
  readonly pacing: Pacing | null;
  /** The end that was told when the deadline could not be held; null: it can. */
  readonly toldEndMs: number | null;
}

export const FRESH_COURSE: Course = {
  bandwidthBps: 0,
  rounds: [],
  throttlePercent: 0,
  isTimeOver: false,
  pacing: null,
  toldEndMs: null,
};

/** A change of course, and what carries it out. */
export interface Turn {
  readonly course: Course;
  readonly effects: readonly Effect[];
}

type DirtyCollected = Extract<Event, { kind: 'dirtyCollected' }>;

export const costOf = (plan: Plan, { bandwidthBps }: Course): Cost => ({
  bandwidthBps,
  handoverMs: plan.handoverMs,
});

/** Null without a deadline. */
export function termsOf({ options, handoverMs }: Plan): Terms | null {
  const { deadlineMs, maxBandwidthBps, channels } = options;
  return deadlineMs === undefined ? null : { deadlineMs, handoverMs, maxBandwidthBps, channels };
}

/** What a round that arrived has shown. */
export function learned(course: Course, sent: RoundSent, collected: DirtyCollected): Course {
  const { dirtyPages, deferredPages, roundMs } = collected;
  const paced = course.pacing !== null && wasHeldBack(course.pacing);
  const { pages, zeroPages } = sent;
  // What the pages are, not what they became: so a prediction has pages that compress take less time.
  const pageBytes = (pages - zeroPages) * PAGE_BYTES;
  const round = { owedBefore: pages + deferredPages, owedAfter: dirtyPages, isPaced: paced };
  return {
    ...course,
    bandwidthBps: bandwidthAfter(course.bandwidthBps, { pageBytes, roundMs, isPaced: paced }),
    rounds: remembered(course.rounds, round),
  };
}

/** Where the migration stands between two rounds. */
export function standingAfter(
  plan: Plan,
  course: Course,
  { dirtyPages, windowMs, elapsedMs }: DirtyCollected,
): Standing {
  const cost = costOf(plan, course);
  return {
    elapsedMs,
    owedPages: dirtyPages,
    dirtyBps: ((dirtyPages * PAGE_BYTES) / Math.max(windowMs, 0.001)) * 1000,
    bandwidthBps: cost.bandwidthBps,
    downtimeMs: predictedDowntimeMs(dirtyPages, cost),
  };
}

/** The first round of a session: with what was in force when the last one broke, if one did. */
export function begin(
  plan: Plan,
  course: Course,
  round: number,
  joined: Extract<Event, { kind: 'channelsJoined' }>,
): Turn {
  const again: Effect[] =
    course.throttlePercent > 0 ? [{ kind: 'throttle', percent: course.throttlePercent }] : [];
  const terms = termsOf(plan);
  if (course.isTimeOver) {
    return { course, effects: [...heldAtTimeout(plan), sendRound(round)] };
  }
  if (terms === null) return { course, effects: [...again, sendRound(round)] };
  const { afterMs, pacing } = firstRound(terms, course.pacing, joined);
  const turn = repaced(course, pacing);
  return { ...turn, effects: [...again, ...turn.effects, sendRound(round, { afterMs })] };
}

/** Another round after one that left what `standing` says. */
export function goOn(plan: Plan, course: Course, round: number, standing: Standing): Turn {
  const throttled = throttledIfStalled(plan, course);
  const terms = termsOf(plan);
  const deferPagesMax = course.isTimeOver
    ? 0
    : deferrablePages(costOf(plan, course), plan.options.downtimeLimitMs);
  if (terms === null || course.pacing === null || course.isTimeOver) {
    const effects = [...throttled.effects, sendRound(round, { deferPagesMax })];
    return { ...throttled, effects };
  }
  const { afterMs, pacing } = nextRound(terms, course.pacing, standing);
  const turn = repaced(throttled.course, pacing);
  const next = sendRound(round, { deferPagesMax, afterMs });
  return { ...turn, effects: [...throttled.effects, ...turn.effects, next] };
}

function throttledIfStalled({ options }: Plan, course: Course): Turn {
  const { rounds, throttlePercent, isTimeOver } = course;
  const isDue =
    options.autoConverge &&
    !isTimeOver &&
    throttlePercent < THROTTLE_PERCENT_MAX &&
    endsIn(THROTTLING, rounds);
  if (!isDue) return { course, effects: [] };
  const percent = throttledFurther(throttlePercent);
  return {
    course: { ...course, throttlePercent: percent, rounds: afterStep(rounds) },
    effects: [{ kind: 'throttle', percent }],
  };
}

/** Takes another pace, and says how the deadline stands where that is news. */
export function repaced(course: Course, pacing: Pacing): Turn {
  const { paceBps, isFeasible, predictedMs } = pacing;
  const effects: Effect[] = [];
  if (paceBps !== (course.pacing?.paceBps ?? null)) effects.push({ kind: 'pace', paceBps });
  if (!isNews(course, pacing)) return { course: { ...course, pacing }, effects };
  effects.push({ kind: 'tellDeadline', isFeasible, predictedMs });
  return { course: { ...course, pacing, toldEndMs: isFeasible ? null : predictedMs }, effects };
}

/** A prediction that changed by less is not told again. */
const NEWS_SHARE = 0.2;

function isNews({ toldEndMs }: Course, { isFeasible, predictedMs }: Pacing): boolean {
  if (isFeasible || toldEndMs === null) return isFeasible !== (toldEndMs === null);
  const changedMs = Math.abs(predictedMs - toldEndMs);
  return predictedMs !== toldEndMs && !(changedMs <= NEWS_SHARE * Math.min(predictedMs, toldEndMs));
}

/** The guest's own time is given back: it stands still, or nothing is sent. */
export const unthrottled = ({ throttlePercent }: Course): readonly Effect[] =>
  throttlePercent > 0 ? [{ kind: 'throttle', percent: 0 }] : [];

/** A guest that is to run on at the destination runs on here until it can. */
export const heldAtTimeout = ({ options }: Plan): readonly Effect[] =>
  options.onTimeout === 'post-copy' ? [] : [{ kind: 'holdGuest' }];

/** What is sent while the guest stands still is sent as fast as it goes. */
export const unpaced = ({ pacing }: Course): readonly Effect[] =>
  pacing?.isPaced === true ? [{ kind: 'pace', paceBps: null }] : [];

const sendRound = (
  round: number,
  { deferPagesMax = 0, afterMs = 0 }: { deferPagesMax?: number; afterMs?: number } = {},
): Effect => ({ kind: 'sendRound', round, deferPagesMax, afterMs });
