/**
 * What the rounds of a migration have shown so far, and what was done about it. It belongs to the
 * migration and not to a session: one that breaks is followed by another on the same course.
 */
import { PAGE_BYTES } from '../../base/units.ts';
import { bandwidthAfter, deferrablePages, predictedDowntimeMs, type Cost } from './convergence.ts';
import { firstRound, nextRound, type Pacing, type Standing, type Terms } from './deadline.ts';
import {
  afterStep,
  remembered,
  stalledRounds,
  throttledFurther,
  THROTTLE_PERCENT_MAX,
  THROTTLING_ROUNDS,
  type RoundFacts,
} from './stall.ts';
import type { Effect, Event, Plan, RoundSent } from './state.ts';

export interface Course {
  /** Bytes a second of the last round that was long enough to tell; 0 before. */
  readonly bandwidthBps: number;
  readonly rounds: readonly RoundFacts[];
  /** Of its time the guest is kept from running. */
  readonly throttlePercent: number;
  /** The time is over and the rest is to be sent with the guest standing still. */
  readonly isTimeOver: boolean;
  /** Null without a deadline, and before the first round. */
  readonly pacing: Pacing | null;
}

export const FRESH_COURSE: Course = {
  bandwidthBps: 0,
  rounds: [],
  throttlePercent: 0,
  isTimeOver: false,
  pacing: null,
};

/** A change of course, and what carries it out. */
export interface Turn {
  readonly course: Course;
  readonly effects: readonly Effect[];
}

type DirtyCollected = Extract<Event, { kind: 'dirtyCollected' }>;

const isPaced = ({ pacing }: Course): boolean => pacing !== null && pacing.paceBps !== null;

export const costOf = (plan: Plan, { bandwidthBps }: Course): Cost => ({
  bandwidthBps,
  handoverMs: plan.handoverMs,
});

/** Null without a deadline. */
export const termsOf = ({ options, handoverMs }: Plan): Terms | null =>
  options.deadlineMs === undefined
    ? null
    : { deadlineMs: options.deadlineMs, handoverMs, maxBandwidthBps: options.maxBandwidthBps };

/** What a round that arrived has shown. */
export function learned(course: Course, sent: RoundSent, collected: DirtyCollected): Course {
  const { dirtyPages, deferredPages, roundMs } = collected;
  const paced = isPaced(course);
  const { bytesSent, pages } = sent;
  const round = { owedBefore: pages + deferredPages, owedAfter: dirtyPages, isPaced: paced };
  return {
    ...course,
    bandwidthBps: bandwidthAfter(course.bandwidthBps, { bytesSent, roundMs, isPaced: paced }),
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
    return { course, effects: [{ kind: 'holdGuest' }, sendRound(round)] };
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
    stalledRounds(rounds) >= THROTTLING_ROUNDS;
  if (!isDue) return { course, effects: [] };
  const percent = throttledFurther(throttlePercent);
  return {
    course: { ...course, throttlePercent: percent, rounds: afterStep(rounds) },
    effects: [{ kind: 'throttle', percent }],
  };
}

/** Takes another pace, and says so when that the deadline can be held is news, or no longer so. */
export function repaced(course: Course, pacing: Pacing): Turn {
  const { paceBps, isFeasible, predictedMs } = pacing;
  const wasFeasible = course.pacing?.isFeasible ?? true;
  const effects: Effect[] = [];
  if (paceBps !== (course.pacing?.paceBps ?? null)) effects.push({ kind: 'pace', paceBps });
  if (isFeasible !== wasFeasible) effects.push({ kind: 'tellDeadline', isFeasible, predictedMs });
  return { course: { ...course, pacing }, effects };
}

/** The guest's own time is given back: it stands still, or nothing is sent. */
export const unthrottled = ({ throttlePercent }: Course): readonly Effect[] =>
  throttlePercent > 0 ? [{ kind: 'throttle', percent: 0 }] : [];

/** What is sent while the guest stands still is sent as fast as it goes. */
export const unpaced = (course: Course): readonly Effect[] =>
  isPaced(course) ? [{ kind: 'pace', paceBps: null }] : [];

const sendRound = (
  round: number,
  { deferPagesMax = 0, afterMs = 0 }: { deferPagesMax?: number; afterMs?: number } = {},
): Effect => ({ kind: 'sendRound', round, deferPagesMax, afterMs });
