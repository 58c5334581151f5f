/**
 * One channel's part of a transfer, at the source: its share of the pages of each round, in sealed
 * records, then the state, then the end. It sends what it is told to and when.
 */
import type { Clock } from '../../base/ports.ts';
import type { Sealer } from '../../crypto/sealer.ts';
import { BATCH_DATA_BYTES_MAX } from '../../base/limits.ts';
import { PAGE_BYTES } from '../../base/units.ts';
import { Batcher, piecesOf, type Batch, type PageSource } from '../../pages/batcher.ts';
import type { PageRange } from '../../pages/bitmap.ts';
import type { EncodingChoice, Way } from '../../pages/encoding-choice.ts';
import { countRuns } from '../../pages/encodings/counts.ts';
import { LATE, Packer } from '../../pages/packer.ts';
import type { PushOrder } from '../../pages/push-order.ts';
import { dirtyRangesOf, rangesOf, type Share } from '../../pages/share.ts';
import type { EncodingName } from '../../protocol/options.ts';
import type { RecordKind } from '../../protocol/record.ts';
import { encodeRoundEnd } from '../../protocol/round-end.ts';
import type { Exchange } from './exchange-mapping.ts';
import {
  NO_EXTENT,
  type ChannelRound,
  type Extent,
  type Report,
  type RoundPages,
} from './messages.ts';
import type { Pacer } from './pacer.ts';
import type { RecordSending } from './record-writer.ts';

/** Told to the main thread this often: waking it costs as much as sealing a record. */
const PROGRESS_MS = 50;

/** The one region of an embedded guest's RAM. */
const REGION = 0;

/** To reckon with: what is pushed when the guest runs at the destination is of no round. */
export const PUSHED = -1;

/** The state travels on the first channel. */
export const STATE_CHANNEL = 0;

export interface SendingOptions {
  readonly sealer: Sealer;
  readonly writer: RecordSending;
  readonly pacer: Pick<Pacer, 'take'>;
  readonly clock: Pick<Clock, 'now'>;
  readonly ram: PageSource;
  readonly exchange: Exchange;
  readonly share: Share;
  /** Those that were agreed on. */
  readonly encodings: readonly EncodingName[];
  readonly choice: Pick<EncodingChoice, 'next' | 'sent' | 'forget'>;
  /** For pages as they were sent last. */
  readonly versionBytesMax: number;
  readonly report: (report: Report) => void;
}

export class Sending {
  readonly #options: SendingOptions;
  readonly #batcher: Batcher;
  /** Of the round under way, or of the last one. */
  #round = { n: 0, ...NO_EXTENT };
  readonly #packer: Packer;

  constructor(options: SendingOptions) {
    this.#options = options;
    const encodings = new Set(options.encodings);
    this.#batcher = new Batcher(REGION, options.ram, encodings);
    this.#packer = new Packer(encodings, options.versionBytesMax);
  }

  /** Sends a round and its end. Rejects with what the writer and the sealer throw. */
  async round(n: number, what: RoundPages): Promise<ChannelRound> {
    const round = { n, ...NO_EXTENT };
    this.#round = round;
    this.#packer.beginRound(n);
    await this.#sendPages(this.#rangesOf(what));
    const { pages, zeroPages } = round;
    await this.#send('roundEnd', [encodeRoundEnd({ round: n, pages, zeroPages })]);
    return { ...round, tag: this.#options.sealer.endRound() };
  }

  /** After `final`: what is open, until nothing is. */
  async push(order: PushOrder): Promise<void> {
    this.#round = { n: PUSHED, ...NO_EXTENT };
    this.#packer.beginRound(LATE);
    await this.#sendPages(order.runs());
  }

  #rangesOf(what: RoundPages): Iterable<PageRange> {
    const { exchange, share } = this.#options;
    if (what === 'none') return [];
    return what === 'all'
      ? rangesOf(exchange.dirty.pageCount, share)
      : dirtyRangesOf(exchange.dirty, share);
  }

  async #sendPages(ranges: Iterable<PageRange>): Promise<void> {
    const { report, clock } = this.#options;
    const round = this.#round;
    let toldAt = Number.NEGATIVE_INFINITY;
    for (const batch of this.#batcher.batchesOf(ranges)) {
      await this.#sendBatch(batch);
      const now = clock.now();
      if (now - toldAt < PROGRESS_MS) continue;
      toldAt = now;
      report({ kind: 'progress', pages: round.pages, bytes: round.bytes });
    }
  }

  async #sendBatch(batch: Batch): Promise<void> {
    const { clock, choice } = this.#options;
    const round = this.#round;
    const [beganAt, before] = [clock.now(), round.bytes];
    const way: Way = this.#packer.canPack ? choice.next(beganAt) : 'plain';
    const encoded = way === 'packed' ? this.#packer.pack(batch) : this.#packer.plain(batch);
    const packingMs = clock.now() - beganAt;
    // Before it leaves: what the peer may have is never less than what counts as sent.
    round.pages += batch.pages;
    round.zeroPages += batch.zeroPages;
    round.counts = countRuns(round.counts, encoded.runs);
    await this.#send('pages', piecesOf(encoded));
    const pages = batch.pages - batch.zeroPages;
    const sentAt = clock.now();
    choice.sent(sentAt, {
      way,
      pages,
      bytes: round.bytes - before,
      plainBytes: pages * PAGE_BYTES,
      packingMs,
      totalMs: sentAt - beganAt,
    });
  }

  /** The link may carry much more from now on. */
  limitLifted(): void {
    this.#options.choice.forget();
  }

  /** What of a round has left, or was about to, on this channel. */
  sentOf(round: number): Extent {
    const { n, ...extent } = this.#round;
    return n === round ? extent : NO_EXTENT;
  }

  /**
   * The last round, the state if this channel carries it, and the end. With `leavesPages` no page is
   * sent, but which ones are not.
   */
  async final(
    n: number,
    stateBytes: number,
    leavesPages = false,
  ): Promise<{ round: ChannelRound; tag: Uint8Array }> {
    const { exchange, share, sealer } = this.#options;
    const round = await this.round(n, leavesPages ? 'none' : 'dirty');
    if (share.index === STATE_CHANNEL) {
      if (leavesPages) await this.#sendAbsent(exchange.dirty.bytes);
      await this.#send('state', [exchange.state.subarray(0, stateBytes)]);
    }
    await this.#send('end', []);
    return { round: { ...round, bytes: this.#round.bytes }, tag: sealer.endRound() };
  }

  async #sendAbsent(bitmap: Uint8Array): Promise<void> {
    for (let at = 0; at < bitmap.length; at += BATCH_DATA_BYTES_MAX) {
      await this.#send('absent', [bitmap.subarray(at, at + BATCH_DATA_BYTES_MAX)]);
    }
  }

  async #send(kind: RecordKind, pieces: readonly Uint8Array[]): Promise<void> {
    const record = this.#options.sealer.seal(kind, pieces);
    const bytes = record.reduce((sum, piece) => sum + piece.length, 0);
    this.#round.bytes += bytes;
    await this.#options.pacer.take(bytes);
    await this.#options.writer.write(record);
  }
}
