/**
 * When to stop copying and start the stop-and-copy. Pure arithmetic on what was measured:
 *
 *     predicted downtime = dirty bytes ÷ bandwidth + handover
 *
 * where `handover` is what the last exchange costs whatever the memory (pause, messages, signatures,
 * disk syncs). It ignores that the guest writes until it is paused: that interval is a millisecond.
 */
import { MiB, PAGE_BYTES } from '../../base/units.ts';

/** A round smaller than this says more about latency than about bandwidth: at least so much there is. */
const TELLING_BYTES = MiB;

/** The bandwidth to predict with, in bytes a second, after a round of `bytesSent` in `roundMs`. */
export function bandwidthAfter(previousBps: number, bytesSent: number, roundMs: number): number {
  const measured = (bytesSent / Math.max(roundMs, 0.001)) * 1000;
  return bytesSent >= TELLING_BYTES ? measured : Math.max(measured, previousBps);
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

export type Decision = 'stop-and-copy' | 'another round' | 'give up';

/** The facts after a round. */
export interface Progress {
  /** From 0. */
  readonly round: number;
  readonly roundsMax: number;
  /** Pages of this round, and those that were written meanwhile. */
  readonly sentPages: number;
  readonly dirtyPages: number;
  readonly cost: Cost;
  readonly downtimeLimitMs: number;
}

/** What to do when a round has arrived. */
export function decide(progress: Progress): Decision {
  const isLast = progress.round + 1 >= progress.roundsMax;
  if (!fits(progress)) return isLast ? 'give up' : 'another round';
  return isLast || !pays(progress) ? 'stop-and-copy' : 'another round';
}

/** Whether what is left can be sent within the downtime limit. */
function fits({ dirtyPages, cost, downtimeLimitMs }: Progress): boolean {
  // Nothing left to send: no further round can make the downtime shorter.
  if (dirtyPages === 0) return true;
  // Nor does one make the handover cheaper: where that takes the limit alone, half is left for pages.
  const handoverMs = Math.min(cost.handoverMs, downtimeLimitMs / 2);
  return predictedDowntimeMs(dirtyPages, { ...cost, handoverMs }) <= downtimeLimitMs;
}

/**
 * Whether one more round makes the downtime noticeably shorter, though it is short enough already:
 * while what is left still shrinks, and sending it would be felt beside the handover. Such a round
 * takes less than the downtime limit; the guest stands still for what it leaves.
 */
const pays = ({ sentPages, dirtyPages, cost }: Progress): boolean =>
  dirtyPages < SHRINKING * sentPages &&
  sendingMs(dirtyPages, cost.bandwidthBps) > FELT * cost.handoverMs;

const SHRINKING = 3 / 4;
const FELT = 1 / 8;
