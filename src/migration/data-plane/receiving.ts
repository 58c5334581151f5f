/**
 * One channel's part of a transfer, at the destination: the order in which records may come, and
 * where their contents go.
 *
 * Nothing of a record is used before its tag was found right. So all that is in the guest's memory is
 * genuine at every instant, and when a connection breaks a channel can tell how much of its part has
 * come: a prefix of whole records, with nothing of the next one.
 */
import { assert } from '../../base/assert.ts';
import type { Opener } from '../../crypto/opener.ts';
import { sumCounts, type EncodingCounts } from '../../pages/encodings/counts.ts';
import { Placer, type RegionSink } from '../../pages/placer.ts';
import { MigError } from '../../protocol/error.ts';
import type { EncodingName } from '../../protocol/options.ts';
import type { RecordHeader, RecordKind } from '../../protocol/record.ts';
import { decodeRoundEnd, ROUND_END_BYTES } from '../../protocol/round-end.ts';
import { NO_EXTENT, type Extent, type Report } from './messages.ts';
import type { RecordSink } from './record-reader.ts';
import { STATE_CHANNEL } from './sending.ts';

export interface ReceivingOptions {
  readonly channel: number;
  /** Those that were agreed on. */
  readonly encodings: readonly EncodingName[];
  readonly opener: Opener;
  readonly region: RegionSink;
  /**
   * Where pages go that come when the guest runs already, and the bitmap that says which; undefined where
   * none may be left.
   */
  readonly late?:
    | {
        readonly region: RegionSink;
        readonly absent: Uint8Array;
        /** In a session in which the guest runs from the start. */
        readonly isAll: boolean;
      }
    | undefined;
  /** Takes the state. */
  readonly state: Uint8Array;
  /** The first round of this session; only memory that round 0 goes into is fresh. */
  readonly firstRound: number;
  readonly report: (report: Report) => void;
}

/** Pages of round `n`, or its end. */
interface InRound {
  readonly kind: 'round';
  readonly n: number;
  pages: number;
  zeroPages: number;
  bytes: number;
  counts: EncodingCounts;
  /** All of the round before. */
  readonly before: Extent;
}

type Stage =
  | InRound
  | { readonly kind: 'absentReceived'; bytes: number }
  | { readonly kind: 'stateReceived'; readonly stateBytes: number }
  | { readonly kind: 'ended' };

const begun = (n: number, before: Extent): InRound => ({
  kind: 'round',
  n,
  ...NO_EXTENT,
  before,
});

export class Receiving implements RecordSink {
  readonly #options: ReceivingOptions;
  readonly #placer: Placer;
  readonly #latePlacer: Placer | undefined;
  #stage: Stage;
  /** Plaintext of the record under way, until it is accepted. */
  #plaintext: Uint8Array[] = [];

  constructor(options: ReceivingOptions) {
    this.#options = options;
    this.#stage =
      options.late?.isAll === true ? { kind: 'ended' } : begun(options.firstRound, NO_EXTENT);
    const encodings = new Set(options.encodings);
    this.#placer = new Placer([options.region], encodings);
    this.#latePlacer = options.late && new Placer([options.late.region], encodings);
  }

  /** Whether the peer has said that nothing more comes that the guest needs to run. */
  get isEnded(): boolean {
    return this.#stage.kind === 'ended';
  }

  /** Whether nothing at all comes any more. */
  get isOver(): boolean {
    return this.isEnded && this.#latePlacer === undefined;
  }

  /** Whether the ends of so many rounds have come, or everything. */
  has(due: number | 'all'): boolean {
    if (due === 'all') return this.isEnded;
    return this.#stage.kind !== 'round' || this.#stage.n >= due;
  }

  /** What of a round was accepted on this channel; null when it is past that. */
  acceptedOf(round: number): Extent | null {
    if (this.#stage.kind !== 'round') return null;
    const { n, pages, zeroPages, bytes, counts, before } = this.#stage;
    if (n === round) return { pages, zeroPages, bytes, counts };
    // This channel has ended the round; another one may not have.
    return n === round + 1 ? before : null;
  }

  begin({ kind, length }: RecordHeader): void {
    this.#checkOrder(kind);
    this.#plaintext = [];
    if (kind === 'pages' || kind === 'demand') return;
    const [min, max] = {
      state: [1, this.#options.state.length] as const,
      roundEnd: [ROUND_END_BYTES, ROUND_END_BYTES] as const,
      absent: [1, this.#absentLeft] as const,
      end: [0, 0] as const,
    }[kind];
    if (length < min || length > max)
      throw new MigError('RECORD_MALFORMED', `${kind} of ${length}`);
  }

  plaintext(piece: Uint8Array): void {
    this.#plaintext.push(piece);
  }

  accepted({ kind, length }: RecordHeader): void {
    const { opener, report } = this.#options;
    if (this.#stage.kind === 'round') {
      this.#stage.bytes += opener.recordBytes(length);
    }
    switch (kind) {
      case 'pages':
        if (this.isEnded) this.#placeLate(length);
        else this.#place(length);
        break;
      case 'absent':
        this.#keepAbsent();
        break;
      case 'demand':
        throw new MigError('RECORD_ORDER', 'a demand to the destination');
      case 'roundEnd':
        this.#endRound();
        break;
      case 'state':
        this.#keepState();
        this.#stage = { kind: 'stateReceived', stateBytes: length };
        break;
      case 'end': {
        const stateBytes = this.#stage.kind === 'stateReceived' ? this.#stage.stateBytes : 0;
        this.#stage = { kind: 'ended' };
        report({ kind: 'final', stateBytes, tag: opener.endRound() });
        break;
      }
    }
  }

  #place(length: number): void {
    const stage = this.#stage;
    assert(stage.kind === 'round', 'pages outside a round');
    this.#placer.begin(length, stage.n === 0);
    for (const piece of this.#plaintext) this.#placer.push(piece);
    const { pages, zeroPages, counts } = this.#placer.end();
    stage.counts = sumCounts(stage.counts, counts);
    stage.pages += pages;
    stage.zeroPages += zeroPages;
    this.#plaintext = [];
  }

  #placeLate(length: number): void {
    const placer = this.#latePlacer;
    assert(placer !== undefined, 'pages after the end');
    placer.begin(length, false);
    for (const piece of this.#plaintext) placer.push(piece);
    placer.end();
    this.#plaintext = [];
  }

  get #absentLeft(): number {
    const stage = this.#stage;
    const done = stage.kind === 'absentReceived' ? stage.bytes : 0;
    return (this.#options.late?.absent.length ?? 0) - done;
  }

  #keepAbsent(): void {
    const { late } = this.#options;
    assert(late !== undefined, 'a bitmap of what is absent');
    let at = late.absent.length - this.#absentLeft;
    for (const piece of this.#plaintext) {
      late.absent.set(piece, at);
      at += piece.length;
    }
    this.#plaintext = [];
    this.#stage = { kind: 'absentReceived', bytes: at };
  }

  #keepState(): void {
    let at = 0;
    for (const piece of this.#plaintext) {
      this.#options.state.set(piece, at);
      at += piece.length;
      piece.fill(0);
    }
  }

  #endRound(): void {
    const stage = this.#stage;
    assert(stage.kind === 'round', 'an end of round outside a round');
    const { n, pages, zeroPages, bytes, counts } = stage;
    const end = decodeRoundEnd(Buffer.concat(this.#plaintext));
    if (end.round !== n) throw new MigError('RECORD_ORDER', `end of round ${end.round} in ${n}`);
    if (end.pages !== pages || end.zeroPages !== zeroPages) {
      throw new MigError('RECORD_ORDER', `${pages} pages in a round of ${end.pages}`);
    }
    const tag = this.#options.opener.endRound();
    this.#options.report({ kind: 'round', round: { n, pages, zeroPages, bytes, counts, tag } });
    this.#stage = begun(n + 1, { pages, zeroPages, bytes, counts });
  }

  /**
   * Rounds, each with its end; on the state channel after a round's end all of the bitmap of what is
   * absent, if anything may be, and the state; the end; and what was absent.
   */
  #checkOrder(kind: RecordKind): void {
    const stage = this.#stage;
    const { firstRound, channel } = this.#options;
    const carriesState = channel === STATE_CHANNEL;
    const isBetweenRounds = stage.kind === 'round' && stage.n > firstRound && stage.bytes === 0;
    const mayLeave = this.#latePlacer !== undefined;
    const isAbsentKnown = stage.kind === 'absentReceived' && this.#absentLeft === 0;
    const permitted = {
      pages: stage.kind === 'round' || (mayLeave && stage.kind === 'ended'),
      roundEnd: stage.kind === 'round',
      absent: mayLeave && carriesState && (isBetweenRounds || stage.kind === 'absentReceived'),
      state: carriesState && (isBetweenRounds || isAbsentKnown),
      end: carriesState ? stage.kind === 'stateReceived' : isBetweenRounds,
      demand: false,
    }[kind];
    if (!permitted) throw new MigError('RECORD_ORDER', `${kind} while ${stage.kind}`);
  }
}
