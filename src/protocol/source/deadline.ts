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
import { MiB, PAGE_BYTES } from '../../base/units.ts';

/** What is asked for, and under which limit. */
export interface Terms {
  readonly deadlineMs: number;
  /** What a handover costs besides its pages. */
  readonly handoverMs: number;
  /** The operator's limit of the bandwidth, if any. */
  readonly maxBandwidthBps: number | undefined;
}

/** How the round under way is paced, and what comes of the deadline as far as is known. */
export interface Pacing {
  /** Bandwidth for the round; null: as fast as it goes. */
  readonly paceBps: number | null;
  readonly roundEndMs: number;
  /** What was sent in this round when it was last measured. */
  readonly sample: RoundPoint;
  /** What the link was seen to carry when it was the limit, in page bytes a second; else null. */
  readonly linkBps: number | null;
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
/** A pace that would change by less stays. */
const STEADY_SHARE = 0.05;
/** The link is the limit when less than this of the pace gets through, */
const SATURATED_SHARE = 0.9;
/** measured over this part of the time, and at most over this long. */
const SAMPLE_SHARE = 0.05;
const SAMPLE_MS_MAX = 500;
const SAFETY = 2;

/** Whether not even one copy of the memory fits into the time under the operator's own limit. */
export const isInfeasible = (terms: Terms, memoryBytes: number): boolean =>
  terms.handoverMs + msFor(memoryBytes, terms.maxBandwidthBps ?? Infinity) > terms.deadlineMs;

/** The first round of a session, of `pages`. */
export function firstRound(
  terms: Terms,
  before: Pacing | null,
  { elapsedMs, owedPages }: Pick<Standing, 'elapsedMs' | 'owedPages'>,
): Plan {
  const leftMs = terms.deadlineMs - terms.handoverMs - elapsedMs;
  const soonestMs =
    elapsedMs + msFor(owedPages * PAGE_BYTES, limitOf(terms, before)) + terms.handoverMs;
  const judged = judge(terms, before, soonestMs);
  const forMs = leftMs * ROUND_0_SHARE;
  return judged.isFeasible
    ? paced(judged, { elapsedMs, owedPages }, forMs)
    : atFullSpeed(judged, elapsedMs);
}

/** The round after one that left what `standing` says. */
export function nextRound(terms: Terms, before: Pacing, standing: Standing): Plan {
  const { elapsedMs, owedPages, dirtyBps, bandwidthBps, downtimeMs } = standing;
  const owedBytes = owedPages * PAGE_BYTES;
  const freeBps = limitOf(terms, before) - dirtyBps;
  const soonestMs = elapsedMs + (freeBps > 0 ? msFor(owedBytes, freeBps) : Infinity) + downtimeMs;
  const judged = judge(terms, before, soonestMs);
  const spareMs = spareOf(terms, standing);
  const willBeOwed = owedBytes + (dirtyBps * spareMs) / 1000;
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
  const { elapsedMs, remainingPages } = point;
  const measured = measure(terms, before, point);
  const { linkBps } = measured;
  const restMs = linkBps === null ? 0 : msFor(remainingPages * PAGE_BYTES, linkBps);
  const soonestMs = elapsedMs + restMs + terms.handoverMs;
  const judged = linkBps === null ? measured : judge(terms, measured, soonestMs);
  if (before.paceBps === null || !judged.isFeasible) return { ...judged, paceBps: null };
  const leftMs = before.roundEndMs - elapsedMs;
  if (leftMs <= 0) return { ...judged, paceBps: null };
  const paceBps = Math.max(bpsFor(remainingPages * PAGE_BYTES, leftMs), PACE_BPS_MIN);
  const isSteady = Math.abs(paceBps - before.paceBps) < STEADY_SHARE * before.paceBps;
  return isSteady ? judged : { ...judged, paceBps };
}

/** What the link has carried since the last sample, if it was the limit and that is long enough ago. */
function measure(terms: Terms, before: Pacing, point: RoundPoint): Pacing {
  const { sample, paceBps } = before;
  const forMs = point.elapsedMs - sample.elapsedMs;
  if (forMs < Math.min(terms.deadlineMs * SAMPLE_SHARE, SAMPLE_MS_MAX)) return before;
  const limitBps = Math.min(paceBps ?? Infinity, terms.maxBandwidthBps ?? Infinity);
  const sentBps = bpsFor(point.bytesSent - sample.bytesSent, forMs);
  const isSaturated = sentBps < SATURATED_SHARE * limitBps;
  const pageBps = bpsFor((point.pages - sample.pages) * PAGE_BYTES, forMs);
  return { ...before, sample: point, linkBps: isSaturated ? pageBps : null };
}

/** What the bandwidth is known not to exceed. */
const limitOf = (terms: Terms, pacing: Pacing | null): number =>
  Math.min(terms.maxBandwidthBps ?? Infinity, pacing?.linkBps ?? Infinity);

function judge(terms: Terms, before: Pacing | null, predictedMs: number): Pacing {
  const isFeasible = predictedMs <= terms.deadlineMs * (1 + LATE_SHARE);
  return { ...(before ?? NOT_PACED), predictedMs, isFeasible };
}

const NOT_PACED = {
  paceBps: null,
  roundEndMs: 0,
  sample: { elapsedMs: 0, pages: 0, bytesSent: 0 },
  linkBps: null,
} as const;

function paced(
  judged: Pacing,
  { elapsedMs, owedPages }: Pick<Standing, 'elapsedMs' | 'owedPages'>,
  forMs: number,
): Plan {
  const bytes = owedPages * PAGE_BYTES;
  const paceBps = Math.max(bpsFor(bytes, forMs), PACE_BPS_MIN);
  const afterMs = Math.max(forMs - msFor(bytes, paceBps), 0);
  const roundEndMs = elapsedMs + forMs;
  return { afterMs, pacing: { ...judged, ...begun(elapsedMs + afterMs), paceBps, roundEndMs } };
}

const atFullSpeed = (judged: Pacing, elapsedMs: number): Plan => ({
  afterMs: 0,
  pacing: { ...judged, ...begun(elapsedMs), paceBps: null, roundEndMs: elapsedMs },
});

const begun = (elapsedMs: number) => ({ sample: { elapsedMs, pages: 0, bytesSent: 0 } });

/** How long from now the guest would have to be stopped, in ms. */
const spareOf = (
  { deadlineMs }: Terms,
  { elapsedMs, downtimeMs }: Pick<Standing, 'elapsedMs' | 'downtimeMs'>,
): number => deadlineMs - elapsedMs - downtimeMs;

const slackOf = ({ deadlineMs }: Terms): number => deadlineMs * SLACK_SHARE;

const msFor = (bytes: number, bps: number): number => (bytes / Math.max(bps, 1)) * 1000;
const bpsFor = (bytes: number, ms: number): number => (bytes / Math.max(ms, 0.001)) * 1000;
