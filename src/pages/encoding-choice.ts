/**
 * Whether to pack the pages of the next batch or to send them as they are, on one channel: whichever gets
 * more pages there in the same time, as measured here and now. Pure; times in ms.
 *
 * Of the way in use the whole time of a page is measured, the link's and the peer's part in it included;
 * over so much that neither a hiccup nor what a socket buffers in advance decides. Of packing, while it is not in
 * use, a batch now and then is packed for trial: how long that took and how much it left. As packing goes on
 * while the link carries what was sent before, a page then would take
 *
 *     max(packing, share of the bytes that is left × page sent as it is)
 *
 * and where packing is short beside the time that the link takes anyway, it costs nothing and is done whatever it
 * saves: pages may turn out to be the same or little changed later. A way that was tried and was no better
 * is tried again after a while, each time after twice as long.
 */
import { MiB } from '../base/units.ts';

/** A measurement is over this many bytes sent, or this long. */
const SPAN_BYTES = 8 * MiB;
const SPAN_MS = 100;
/** The middle one of so many counts. */
const SPANS = 3;
/** Trials take this share of the time, */
const TRIAL_SHARE = 0.01;
/** or, where one was held up, are not further apart than this; */
const TRIAL_REST_MS_MAX = 500;
/** and as they fail, half of it and so on, down to this part of it. */
const TRIAL_PATIENCE_MAX = 64;
/** Packing pays when so much of the time is left at most; */
const GAIN = 0.9;
/** it is for nothing when it takes so much of the time at most. */
const IDLE = 0.25;
/** With that much less time by a trial it is certain at once. */
const CERTAIN = 1 / 3;
/** Packing that is as fast stays. */
const EVEN = 1.1;
const RETRY_MS_MIN = 1000;
const RETRY_MS_MAX = 64_000;

export type Way = 'plain' | 'packed';

/** What became of one batch. Pages of zeros count nothing. */
export interface BatchSent {
  readonly way: Way;
  readonly pages: number;
  /** Of the record. */
  readonly bytes: number;
  /** What the same would have been as it was. */
  readonly plainBytes: number;
  readonly packingMs: number;
  /** Packing included. */
  readonly totalMs: number;
}

interface Trial {
  readonly msPerPage: number;
  readonly bytesShare: number;
}

export class EncodingChoice {
  #way: Way = 'plain';
  /** What goes on in this span. */
  #span = { pages: 0, bytes: 0, ms: 0 };
  /** Time of a page, in each of the last spans of the way in use. */
  #spans: number[] = [];
  /** The same of the other way when it was in use last. */
  #otherMs = Number.POSITIVE_INFINITY;
  #trial: Trial | undefined;
  /** Of a page, when one was packed last. */
  #packingMs = Number.POSITIVE_INFINITY;
  #trialAt = 0;
  #patience = 1;
  #retryAt = 0;
  #retryMs = RETRY_MS_MIN;
  /** Whether the way in use is tried for one span. */
  #isRetry = false;

  /** How to send the next batch, that goes at `now`. */
  next(now: number): Way {
    if (this.#way === 'packed') return 'packed';
    // Nothing is tried before it is known what it is to be held against.
    return this.#spans.length > 0 && now >= this.#trialAt ? 'packed' : 'plain';
  }

  /** A batch has gone, `now`. */
  sent(now: number, batch: BatchSent): void {
    if (batch.pages === 0) return;
    if (batch.way !== this.#way) {
      this.#tried(now, batch);
      return;
    }
    if (batch.way === 'packed') this.#learn(batch);
    const { pages, bytes, ms } = this.#span;
    this.#span = {
      pages: pages + batch.pages,
      bytes: bytes + batch.bytes,
      ms: ms + batch.totalMs,
    };
    if (this.#span.bytes < SPAN_BYTES && this.#span.ms < SPAN_MS) return;
    this.#spans = [...this.#spans, this.#span.ms / this.#span.pages].slice(-SPANS);
    this.#span = { pages: 0, bytes: 0, ms: 0 };
    if (this.#way === 'packed') this.#judgePacked(now);
    else this.#judgePlain(now);
  }

  /** The link may carry much more from now on than was measured. */
  forget(): void {
    this.#enter('plain');
    this.#otherMs = Number.POSITIVE_INFINITY;
    this.#isRetry = false;
    this.#retryAt = 0;
    this.#retryMs = RETRY_MS_MIN;
  }

  #tried(now: number, batch: BatchSent): void {
    this.#learn(batch);
    this.#judgePlain(now);
    if (this.#way === 'packed') this.#patience = 1;
    else this.#patience = Math.min(this.#patience * 2, TRIAL_PATIENCE_MAX);
    const restMs = Math.min(batch.packingMs / TRIAL_SHARE, TRIAL_REST_MS_MAX);
    this.#trialAt = now + restMs * this.#patience;
  }

  #learn({ pages, bytes, plainBytes, packingMs }: BatchSent): void {
    const msPerPage = packingMs / pages;
    // The lesser of the last two: one that was held up says nothing of what it costs.
    this.#trial = {
      msPerPage: Math.min(msPerPage, this.#packingMs),
      bytesShare: bytes / plainBytes,
    };
    this.#packingMs = msPerPage;
  }

  #judgePlain(now: number): void {
    if (this.#isRetry) {
      this.#endRetry(now);
      return;
    }
    const plainMs = this.#measuredMs;
    const trial = this.#trial;
    if (trial === undefined || now < this.#retryAt) return;
    const packedMs = Math.max(trial.msPerPage, trial.bytesShare * plainMs);
    const pays = packedMs < GAIN * plainMs || trial.msPerPage < IDLE * plainMs;
    // One slow span may be a hiccup; packing that cannot lose is begun anyway.
    const isSure = this.#spans.length >= SPANS || packedMs < CERTAIN * plainMs;
    if (pays && isSure) this.#change(now, 'packed');
  }

  #judgePacked(now: number): void {
    // As before: one slow span may be a hiccup.
    const isSure = this.#spans.length >= SPANS || this.#measuredMs * CERTAIN > this.#otherMs;
    if (isSure && this.#measuredMs > EVEN * this.#otherMs) {
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS_MAX);
      this.#change(now, 'plain');
    } else if (now >= this.#retryAt) {
      this.#change(now, 'plain');
      this.#isRetry = true;
    }
  }

  /** One span was sent as it is: was that better than packed? */
  #endRetry(now: number): void {
    this.#isRetry = false;
    const isBetter = this.#measuredMs * EVEN < this.#otherMs;
    this.#retryMs = isBetter ? RETRY_MS_MIN : Math.min(this.#retryMs * 2, RETRY_MS_MAX);
    if (isBetter) this.#retryAt = now + this.#retryMs;
    else this.#change(now, 'packed');
  }

  #change(now: number, way: Way): void {
    const otherMs = this.#measuredMs;
    this.#enter(way);
    this.#otherMs = otherMs;
    this.#retryAt = now + this.#retryMs;
  }

  #enter(way: Way): void {
    this.#way = way;
    this.#spans = [];
    this.#span = { pages: 0, bytes: 0, ms: 0 };
  }

  get #measuredMs(): number {
    return (
      this.#spans.toSorted((a, b) => a - b)[this.#spans.length >> 1] ?? Number.POSITIVE_INFINITY
    );
  }
}
