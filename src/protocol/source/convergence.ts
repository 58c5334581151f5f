/**
 * When to stop copying and start the stop-and-copy, and which pages to leave for it. Pure arithmetic on
 * what was measured:
 *
 *     predicted downtime = dirty bytes ÷ bandwidth + handover
 *
 * where `handover` is what the last exchange costs whatever the memory (pause, messages, signatures,
 * disk syncs). It ignores that the guest writes until it is paused: that interval is a millisecond.
 */
import { MiB, PAGE_BYTES } from '../../base/units.ts';
import type { MigrateOptions, OnTimeout } from '../options.ts';
import { endsIn, HOPELESS, type RoundFacts } from './stall.ts';

/** A round smaller than this says more about latency than about bandwidth: at least so much there is. */
const TELLING_BYTES = MiB;

/**
 * The bandwidth to predict with, in bytes a second, after a round that brought pages of `pageBytes` in
 * `roundMs`: of the pages themselves, whatever they took on the way; those of zeros take next to nothing
 * and are left out. A round that a deadline slowed down (`isPaced`) shows what was asked for: at least so much there is.
 */
export function bandwidthAfter(
  previousBps: number,
  {
    pageBytes,
    roundMs,
    isPaced,
  }: Readonly<{ pageBytes: number; roundMs: number; isPaced: boolean }>,
): number {
  const measured = (pageBytes / Math.max(roundMs, 0.001)) * 1000;
  const tells = pageBytes >= TELLING_BYTES && !isPaced;
  return tells ? measured : Math.max(measured, previousBps);
}

/** What a prediction rests on. */
export interface Cost {
  readonly bandwidthBps: number;
  readonly handoverMs: number;
}

/** How long it takes to send `dirtyPages`, in ms. */
export const sendingMs = (dirtyPages: number, bandwidthBps: number): number =>
  ((dirtyPages * PAGE_BYTES) / Math.max(bandwidthBps, 1)) * 1000;

/** How long the guest would stand still, in ms, if it were paused now. */
export const predictedDowntimeMs = (dirtyPages: number, cost: Cost): number =>
  sendingMs(dirtyPages, cost.bandwidthBps) + cost.handoverMs;

/**
 * Why the guest was stopped: what is left fits, or there was no more time, or no more rounds; or it is
 * better sent when the guest runs there.
 */
export type StopReason = 'downtime-limit' | 'timeout' | 'rounds' | 'post-copy';

export type Decision =
  | { readonly kind: 'stop-and-copy'; readonly why: StopReason }
  /** As the first, but what is left is sent when the guest runs at the destination. */
  | { readonly kind: 'post-copy'; readonly why: StopReason }
  | { readonly kind: 'another round' }
  | { readonly kind: 'give up' };

const ANOTHER_ROUND: Decision = { kind: 'another round' };
const GIVE_UP: Decision = { kind: 'give up' };
const stopFor = (why: StopReason): Decision => ({ kind: 'stop-and-copy', why });

/** The facts after a round. */
export interface Progress {
  /** From 0. */
  readonly round: number;
  readonly roundsMax: number;
  /** The last rounds, this one included. */
  readonly rounds: readonly RoundFacts[];
  readonly cost: Cost;
  readonly downtimeLimitMs: number;
  readonly mode: MigrateOptions['mode'];
  readonly onTimeout: OnTimeout;
  /** The time is over and the guest stands still for the rest: nothing is written any more. */
  readonly isTimeOver: boolean;
  /** A deadline says that it is too early to stop. */
  readonly isEarly: boolean;
}

/**
 * What to do when a round has arrived. The downtime limit holds until the time is over; then, with
 * `pause`, it does not. What that needs is sent in rounds of its own, so that a round's limits hold.
 */
export function decide(progress: Progress): Decision {
  const { isTimeOver, onTimeout, mode, rounds } = progress;
  const isLast = progress.round + 1 >= progress.roundsMax;
  const isFit = fits(progress);
  if (isTimeOver && onTimeout === 'post-copy' && !isFit)
    return { kind: 'post-copy', why: 'timeout' };
  if (isTimeOver) return isFit || isLast ? stopFor('timeout') : ANOTHER_ROUND;
  if (isFit && isLast) return stopFor('downtime-limit');
  if (isFit) return progress.isEarly || pays(progress) ? ANOTHER_ROUND : stopFor('downtime-limit');
  if (mode === 'hybrid') {
    return isLast || !isShrinking(progress)
      ? { kind: 'post-copy', why: 'post-copy' }
      : ANOTHER_ROUND;
  }
  if (onTimeout === 'pause') return isLast ? stopFor('rounds') : ANOTHER_ROUND;
  return isLast || endsIn(HOPELESS, rounds) ? GIVE_UP : ANOTHER_ROUND;
}

const NO_ROUND: RoundFacts = { owedBefore: 0, owedAfter: 0, isPaced: false };

/** Whether what is left can be sent within the downtime limit. */
function fits({ rounds, cost, downtimeLimitMs }: Progress): boolean {
  const { owedAfter } = rounds.at(-1) ?? NO_ROUND;
  // Nothing left to send: no further round can make the downtime shorter.
  return (
    owedAfter === 0 || sendingMs(owedAfter, cost.bandwidthBps) <= pagesMs(cost, downtimeLimitMs)
  );
}

/**
 * The part of the downtime limit that is for pages, in ms. No round makes the handover cheaper: where
 * that takes the limit alone, half is left for pages.
 */
const pagesMs = ({ handoverMs }: Cost, downtimeLimitMs: number): number =>
  downtimeLimitMs - Math.min(handoverMs, downtimeLimitMs / 2);

/**
 * How many hot pages a round may leave for the stop-and-copy: they take half of what the downtime limit
 * has for pages, so that the rest still fits beside them.
 */
export const deferrablePages = (cost: Cost, downtimeLimitMs: number): number =>
  Math.floor((pagesMs(cost, downtimeLimitMs) * cost.bandwidthBps) / 2000 / PAGE_BYTES);

/**
 * Whether one more round makes the downtime noticeably shorter, though it is short enough already:
 * while what is left still shrinks, and sending it would be felt beside the handover. Such a round
 * takes less than the downtime limit; the guest stands still for what it leaves.
 */
function pays(progress: Progress): boolean {
  const { rounds, cost } = progress;
  const { owedAfter } = rounds.at(-1) ?? NO_ROUND;
  return isShrinking(progress) && sendingMs(owedAfter, cost.bandwidthBps) > FELT * cost.handoverMs;
}

/** Whether the last round left noticeably less than it found. */
function isShrinking({ rounds }: Progress): boolean {
  const { owedBefore, owedAfter } = rounds.at(-1) ?? NO_ROUND;
  return owedAfter < SHRINKING * owedBefore;
}

const SHRINKING = 3 / 4;
const FELT = 1 / 8;
