/**
 * To finish when told: how fast each round is sent, so that the VM runs at the destination at the time
 * asked for, neither later nor much sooner. Pure; times in ms since the migration began.
 *
 * Round 0 is given most of the time. Each round after it is given half of what is left, until no more
 * is left than the rounds need at full speed:
 *
 *     needed = what is owed and what will be written until then ÷ bandwidth, twice for safety
 *
 * From there on rounds go as fast as they can, and the guest is stopped when what is left of the time
 * is its downtime. Pages count whole: a round whose pages turn out to be zero, or to compress, is over
 * early, and the next one has more time. A link that turns out to be too slow is told of at once.
 */
import { BATCH_DATA_BYTES_MAX } from '../../base/limits.ts';
import { MiB, PAGE_BYTES } from '../../base/units.ts';

/** What is asked for, and under which limit. */
export interface Terms {
  readonly deadlineMs: number;
  /** What a handover costs besides its pages. */
  readonly handoverMs: number;
  /** The operator's limit of the bandwidth, if any. */
  readonly maxBandwidthBps: number | undefined;
  /** Each sends a record at a time. */
  readonly channels: number;
}

/** How the round under way is paced, and what comes of the deadline as far as is known. */
export interface Pacing {
  /** Bandwidth for the round; null: as fast as it goes. */
  readonly paceBps: number | null;
  readonly roundEndMs: number;
  /** Whether the round began with a pace. */
  readonly isPaced: boolean;
  /** What was sent in this round when it was last measured. */
  readonly sample: RoundPoint;
  /** What the link is seen to carry while it is the limit, in page bytes a second; else null. */
  readonly linkBps: number | null;
  /** What the guest was seen to write, and the link to carry at least; 0 before the first round. */
  readonly dirtyBps: number;
  readonly bandwidthBps: number;
  /** Predicted end; Infinity: the guest writes faster than can be sent. */
  readonly predictedMs: number;
  readonly isFeasible: boolean;
}

/** How far a round is. */
export interface RoundPoint {
  readonly elapsedMs: number;
  readonly pages: number;
  readonly bytesSent: number;
}

/** What stands between two rounds. */
export interface Standing {
  readonly elapsedMs: number;
  readonly owedPages: number;
  readonly dirtyBps: number;
  /** What the link carries, at least. */
  readonly bandwidthBps: number;
  /** If the guest were stopped now. */
  readonly downtimeMs: number;
}

/** How the next round is sent: `afterMs` from now. */
export interface Plan {
  readonly afterMs: number;
  readonly pacing: Pacing;
}

/** Of the time, for round 0: how much the guest writes meanwhile is not known before. */
const ROUND_0_SHARE = 0.7;
/** As exact as it is to be: so much of the time may be left when the guest is stopped. */
const SLACK_SHARE = 0.01;
/** A deadline that is predicted to be missed by less than this is still held. */
const LATE_SHARE = 0.05;
/** No slower than this: then rather a rest. */
const PACE_BPS_MIN = MiB;
/** A round that has fewer records to send, on each channel, gets no slower. */
const ENDING_RECORDS = 2;
/** A pace that would change by less stays. */
const STEADY_SHARE = 0.05;
/** The link is the limit when less than this of the pace gets through, */
const SATURATED_SHARE = 0.8;
/** measured over this part of the time, at most over this long, and over so many records a channel; */
const SAMPLE_SHARE = 0.02;
const SAMPLE_MS_MAX = 500;
const SAMPLE_RECORDS = 8;
/** so much is believed of one such measurement: it may be a dip. */
const BELIEVED = 1 / 4;
const SAFETY = 2;

/** Whether not even one copy of the memory fits into the time under the operator's own limit. */
export const isInfeasible = (terms: Terms, memoryBytes: number): boolean =>
  terms.handoverMs + msFor(memoryBytes, terms.maxBandwidthBps ?? Infinity) > terms.deadlineMs;

/** The first round of a session. */
export function firstRound(
  terms: Terms,
  before: Pacing | null,
  begun: Pick<Standing, 'elapsedMs' | 'owedPages'>,
): Plan {
  const { deadlineMs, handoverMs } = terms;
  const judged = judge(terms, before ?? NOT_PACED, { ...begun, afterwardsMs: handoverMs });
  const forMs = (deadlineMs - handoverMs - begun.elapsedMs) * ROUND_0_SHARE;
  return judged.isFeasible ? paced(judged, begun, forMs) : atFullSpeed(judged, begun.elapsedMs);
}

/** The round after one that left what `standing` says. */
export function nextRound(terms: Terms, before: Pacing, standing: Standing): Plan {
  const { elapsedMs, owedPages, dirtyBps, bandwidthBps, downtimeMs } = standing;
  // Where the link was the limit, what the round measured is what it carries.
  const linkBps = before.linkBps === null ? null : bandwidthBps;
  const known = { ...before, dirtyBps, bandwidthBps, linkBps };
  const judged = judge(terms, known, { elapsedMs, owedPages, afterwardsMs: downtimeMs });
  const spareMs = spareOf(terms, standing);
  const willBeOwed = owedPages * PAGE_BYTES + (dirtyBps * spareMs) / 1000;
  const neededMs = Math.max(SAFETY * msFor(willBeOwed, bandwidthBps), slackOf(terms));
  return judged.isFeasible && spareMs > neededMs
    ? paced(judged, standing, spareMs / 2)
    : atFullSpeed(judged, elapsedMs);
}

/** Whether the guest would be stopped too early now. */
export const isEarly = (
  terms: Terms,
  standing: Pick<Standing, 'elapsedMs' | 'downtimeMs'>,
): boolean => spareOf(terms, standing) > slackOf(terms);

/** In the middle of a round, of which `remainingPages` are still to be sent. */
export function midRound(
  terms: Terms,
  before: Pacing,
  point: RoundPoint & { readonly remainingPages: number },
): Pacing {
  const { elapsedMs, remainingPages: owedPages } = point;
  const measured = measure(terms, before, point);
  const judged = judge(terms, measured, { elapsedMs, owedPages, afterwardsMs: terms.handoverMs });
  const leftMs = before.roundEndMs - elapsedMs;
  if (before.paceBps === null || !judged.isFeasible || leftMs <= 0) {
    return { ...judged, paceBps: null };
  }
  const paceBps = Math.max(bpsFor(owedPages * PAGE_BYTES, leftMs), PACE_BPS_MIN);
  const isSteady = Math.abs(paceBps - before.paceBps) < STEADY_SHARE * before.paceBps;
  // The last records of a round count as sent while they wait for their turn.
  const isEnding =
    paceBps < before.paceBps && owedPages * PAGE_BYTES < recordsOf(terms, ENDING_RECORDS);
  return isSteady || isEnding ? judged : { ...judged, paceBps };
}

/** What the link has carried since the last sample, if it was the limit and that is long enough ago. */
function measure(terms: Terms, before: Pacing, point: RoundPoint): Pacing {
  const { sample, paceBps, linkBps } = before;
  const forMs = point.elapsedMs - sample.elapsedMs;
  const limitBps = Math.min(paceBps ?? Infinity, terms.maxBandwidthBps ?? Infinity);
  const sampleMs = Math.min(terms.deadlineMs * SAMPLE_SHARE, SAMPLE_MS_MAX);
  if (forMs < Math.max(sampleMs, msFor(recordsOf(terms, SAMPLE_RECORDS), limitBps))) return before;
  const sentBps = bpsFor(point.bytesSent - sample.bytesSent, forMs);
  if (sentBps >= SATURATED_SHARE * limitBps) return { ...before, sample: point, linkBps: null };
  const pageBps = bpsFor((point.pages - sample.pages) * PAGE_BYTES, forMs);
  const seenBps = before.bandwidthBps > 0 ? before.bandwidthBps : pageBps;
  const assumedBps = linkBps ?? (limitBps === Infinity ? seenBps : limitBps);
  const believedBps = assumedBps + BELIEVED * (pageBps - assumedBps);
  return { ...before, sample: point, linkBps: believedBps };
}

/** What the bandwidth is not known to exceed. */
const limitOf = (terms: Terms, { linkBps }: Pacing): number =>
  Math.min(terms.maxBandwidthBps ?? Infinity, linkBps ?? Infinity);

/** When it would end at best, with what is owed and what is written until then sent at full speed. */
function judge(
  terms: Terms,
  pacing: Pacing,
  now: Readonly<{ elapsedMs: number; owedPages: number; afterwardsMs: number }>,
): Pacing {
  const { deadlineMs } = terms;
  const freeBps = limitOf(terms, pacing) - pacing.dirtyBps;
  const sendingMs = freeBps > 0 ? msFor(now.owedPages * PAGE_BYTES, freeBps) : Infinity;
  const predictedMs = now.elapsedMs + sendingMs + now.afterwardsMs;
  // What was told once is not taken back for a little.
  const latestMs = deadlineMs * (pacing.isFeasible ? 1 + LATE_SHARE : 1);
  return { ...pacing, predictedMs, isFeasible: predictedMs <= latestMs };
}

const NOT_PACED: Pacing = {
  paceBps: null,
  roundEndMs: 0,
  isPaced: false,
  sample: { elapsedMs: 0, pages: 0, bytesSent: 0 },
  linkBps: null,
  dirtyBps: 0,
  bandwidthBps: 0,
  predictedMs: 0,
  isFeasible: true,
};

function paced(
  judged: Pacing,
  { elapsedMs, owedPages }: Pick<Standing, 'elapsedMs' | 'owedPages'>,
  forMs: number,
): Plan {
  const bytes = owedPages * PAGE_BYTES;
  const paceBps = Math.max(bpsFor(bytes, forMs), PACE_BPS_MIN);
  const afterMs = Math.max(forMs - msFor(bytes, paceBps), 0);
  const sample = nothingSent(elapsedMs + afterMs);
  const roundEndMs = elapsedMs + forMs;
  // A link that carries more than that is not the limit.
  const linkBps = (judged.linkBps ?? Infinity) < paceBps ? judged.linkBps : null;
  return { afterMs, pacing: { ...judged, sample, paceBps, linkBps, roundEndMs, isPaced: true } };
}

function atFullSpeed(judged: Pacing, elapsedMs: number): Plan {
  const sample = nothingSent(elapsedMs);
  const round = { sample, paceBps: null, roundEndMs: elapsedMs, isPaced: false };
  return { afterMs: 0, pacing: { ...judged, ...round } };
}

const nothingSent = (elapsedMs: number): RoundPoint => ({ elapsedMs, pages: 0, bytesSent: 0 });

/** Whether a round showed no more than what was asked of it. */
export const wasHeldBack = ({ isPaced, linkBps }: Pacing): boolean => isPaced && linkBps === null;

/** How long from now the guest would have to be stopped, in ms. */
const spareOf = (
  { deadlineMs }: Terms,
  { elapsedMs, downtimeMs }: Pick<Standing, 'elapsedMs' | 'downtimeMs'>,
): number => deadlineMs - elapsedMs - downtimeMs;

/** Page data of so many records on every channel, in bytes. */
const recordsOf = ({ channels }: Terms, records: number): number =>
  records * channels * BATCH_DATA_BYTES_MAX;

const slackOf = ({ deadlineMs }: Terms): number => deadlineMs * SLACK_SHARE;

const msFor = (bytes: number, bps: number): number => (bytes / Math.max(bps, 1)) * 1000;
const bpsFor = (bytes: number, ms: number): number => (bytes / Math.max(ms, 0.001)) * 1000;
