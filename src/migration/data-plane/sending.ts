/**
 * One channel's part of a transfer, at the source: its share of the pages of each round, in sealed
 * records, then the state, then the end. It sends what it is told to and when.
 */
import type { Clock } from '../../base/ports.ts';
import type { Sealer } from '../../crypto/sealer.ts';
import { Batcher, type PageSource } from '../../pages/batcher.ts';
import { dirtyRangesOf, rangesOf, type Share } from '../../pages/share.ts';
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
  readonly report: (report: Report) => void;
}

export class Sending {
  readonly #options: SendingOptions;
  readonly #batcher: Batcher;
  /** Of the round under way, or of the last one. */
  #round = { n: 0, pages: 0, zeroPages: 0, bytes: 0 };

  constructor(options: SendingOptions) {
    this.#options = options;
    this.#batcher = new Batcher(REGION, options.ram);
  }

  /** Sends a round and its end. Rejects with what the writer and the sealer throw. */
  async round(n: number, what: RoundPages): Promise<ChannelRound> {
    const { exchange, share, report, sealer, clock } = this.#options;
    const { dirty } = exchange;
    const ranges = what === 'all' ? rangesOf(dirty.pageCount, share) : dirtyRangesOf(dirty, share);
    const round = { n, ...NO_EXTENT };
    this.#round = round;
    let toldAt = Number.NEGATIVE_INFINITY;
    for (const batch of this.#batcher.batchesOf(ranges)) {
      // Before it leaves: what the peer may have is never less than what counts as sent.
      round.pages += batch.pages;
      round.zeroPages += batch.zeroPages;
      await this.#send('pages', batch.pieces);
      const now = clock.now();
      if (now - toldAt < PROGRESS_MS) continue;
      toldAt = now;
      report({ kind: 'progress', pages: round.pages, bytes: round.bytes });
    }
    const { pages, zeroPages } = round;
    await this.#send('roundEnd', [encodeRoundEnd({ round: n, pages, zeroPages })]);
    return { ...round, tag: sealer.endRound() };
  }

  /** What of a round has left, or was about to, on this channel. */
  sentOf(round: number): Extent {
    const { n, ...extent } = this.#round;
    return n === round ? extent : NO_EXTENT;
  }

  /** The last round, the state if this channel carries it, and the end. */
  async final(n: number, stateBytes: number): Promise<{ round: ChannelRound; tag: Uint8Array }> {
    const { exchange, share, sealer } = this.#options;
    const round = await this.round(n, 'dirty');
    if (share.index === STATE_CHANNEL) {
      await this.#send('state', [exchange.state.subarray(0, stateBytes)]);
    }
    await this.#send('end', []);
    return { round: { ...round, bytes: this.#round.bytes }, tag: sealer.endRound() };
  }

  async #send(kind: RecordKind, pieces: readonly Uint8Array[]): Promise<void> {
    const record = this.#options.sealer.seal(kind, pieces);
    const bytes = record.reduce((sum, piece) => sum + piece.length, 0);
    this.#round.bytes += bytes;
    await this.#options.pacer.take(bytes);
    await this.#options.writer.write(record);
  }
}
