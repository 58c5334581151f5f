/**
 * One channel's part of a transfer, at the destination: the order in which records may come, and
 * where their contents go.
 *
 * Pages are placed in the guest's memory before the tag of their record was checked. That is safe
 * because (1) the placer checks every run against its region before it places anything, so nothing
 * but this guest's memory can change; (2) this guest does not run, and runs only after every tag,
 * every count and the signed digest of all transcripts were found right; (3) at the first wrong tag
 * the transfer fails and the memory is thrown away. Everything else is used only once accepted.
 */
import type { Opener } from '../../crypto/opener.ts';
import { Placer, type RegionSink } from '../../pages/placer.ts';
import { MigError } from '../../protocol/error.ts';
import { RECORD_HEADER_BYTES, type RecordHeader, type RecordKind } from '../../protocol/record.ts';
import { decodeRoundEnd, ROUND_END_BYTES } from '../../protocol/round-end.ts';
import type { Report } from './messages.ts';
import type { RecordSink } from './record-reader.ts';
import { STATE_CHANNEL } from './sending.ts';

export interface ReceivingOptions {
  readonly channel: number;
  readonly opener: Opener;
  readonly region: RegionSink;
  /** Takes the state. */
  readonly state: Uint8Array;
  readonly report: (report: Report) => void;
}

type Stage =
  /** Pages of round `n`, or its end. */
  | { readonly kind: 'round'; readonly n: number; pages: number; zeroPages: number; bytes: number }
  | { readonly kind: 'stateReceived'; readonly stateBytes: number }
  | { readonly kind: 'ended' };

const begun = (n: number): Stage => ({ kind: 'round', n, pages: 0, zeroPages: 0, bytes: 0 });

export class Receiving implements RecordSink {
  readonly #options: ReceivingOptions;
  readonly #placer: Placer;
  #stage: Stage = begun(0);
  /** Plaintext of a record that is not pages, until it is accepted. */
  #gathered = Buffer.alloc(0);
  #fill = 0;
  #kind: RecordKind = 'end';

  constructor(options: ReceivingOptions) {
    this.#options = options;
    this.#placer = new Placer([options.region]);
  }

  /** Whether the peer has said that nothing more comes. */
  get isEnded(): boolean {
    return this.#stage.kind === 'ended';
  }

  /** Whether the ends of so many rounds have come, or everything. */
  has(due: number | 'all'): boolean {
    if (due === 'all') return this.isEnded;
    return this.#stage.kind !== 'round' || this.#stage.n >= due;
  }

  begin(header: RecordHeader): void {
    const { kind, length } = header;
    this.#checkOrder(kind);
    this.#kind = kind;
    if (kind === 'pages') {
      this.#placer.begin(length, this.#stage.kind === 'round' && this.#stage.n === 0);
      return;
    }
    const [min, max] = {
      state: [1, this.#options.state.length] as const,
      roundEnd: [ROUND_END_BYTES, ROUND_END_BYTES] as const,
      end: [0, 0] as const,
    }[kind];
    if (length < min || length > max)
      throw new MigError('RECORD_MALFORMED', `${kind} of ${length}`);
    this.#gathered = Buffer.alloc(length);
    this.#fill = 0;
  }

  plaintext(piece: Uint8Array): void {
    if (this.#kind === 'pages') {
      this.#placer.push(piece);
      return;
    }
    this.#gathered.set(piece, this.#fill);
    this.#fill += piece.length;
  }

  accepted({ kind, length }: RecordHeader): void {
    const { opener, state, report } = this.#options;
    if (this.#stage.kind === 'round') {
      this.#stage.bytes += RECORD_HEADER_BYTES + length + opener.tagBytes;
    }
    switch (kind) {
      case 'pages': {
        const placed = this.#placer.end();
        if (this.#stage.kind !== 'round') break;
        this.#stage.pages += placed.pages;
        this.#stage.zeroPages += placed.zeroPages;
        break;
      }
      case 'roundEnd':
        this.#endRound();
        break;
      case 'state':
        state.set(this.#gathered);
        this.#gathered.fill(0);
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

  #endRound(): void {
    if (this.#stage.kind !== 'round') return;
    const { n, pages, zeroPages, bytes } = this.#stage;
    const end = decodeRoundEnd(this.#gathered);
    if (end.round !== n) throw new MigError('RECORD_ORDER', `end of round ${end.round} in ${n}`);
    if (end.pages !== pages || end.zeroPages !== zeroPages) {
      throw new MigError('RECORD_ORDER', `${pages} pages in a round of ${end.pages}`);
    }
    const tag = this.#options.opener.endRound();
    this.#options.report({ kind: 'round', round: { n, pages, zeroPages, bytes, tag } });
    this.#stage = begun(n + 1);
  }

  /** Rounds, each with its end; on the state channel the state after a round's end; the end. */
  #checkOrder(kind: RecordKind): void {
    const stage = this.#stage;
    const carriesState = this.#options.channel === STATE_CHANNEL;
    const isBetweenRounds = stage.kind === 'round' && stage.n > 0 && stage.bytes === 0;
    const permitted = {
      pages: stage.kind === 'round',
      roundEnd: stage.kind === 'round',
      state: carriesState && isBetweenRounds,
      end: carriesState ? stage.kind === 'stateReceived' : isBetweenRounds,
    }[kind];
    if (!permitted) throw new MigError('RECORD_ORDER', `${kind} while ${stage.kind}`);
  }
}
