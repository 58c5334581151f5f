/**
 * The source's part of a guest's network faults: a demand comes, the pages it names leave at once with what
 * is near to them. Every page that is asked for is sent, also one that was pushed already and is on its
 * way: whoever asks waits.
 */
import type { Sealer } from '../../crypto/sealer.ts';
import { countRuns, NO_COUNTS } from '../../pages/encodings/counts.ts';
import { Batcher, piecesOf, type PageSource } from '../../pages/batcher.ts';
import type { PushOrder } from '../../pages/push-order.ts';
import { decodeDemand, isDemandLength } from '../../protocol/demand.ts';
import { MigError } from '../../protocol/error.ts';
import type { EncodingName } from '../../protocol/options.ts';
import type { RecordHeader } from '../../protocol/record.ts';
import type { Extent } from './messages.ts';
import type { RecordSink } from './record-reader.ts';
import type { RecordSending } from './record-writer.ts';

/** The one region of an embedded guest's RAM. */
const REGION = 0;

export interface FaultServerOptions {
  readonly sealer: Sealer;
  readonly writer: RecordSending;
  /** Those that were agreed on. */
  readonly encodings: readonly EncodingName[];
  readonly ram: PageSource & { readonly pageCount: number };
  readonly order: PushOrder;
  /** Takes the bitmap of what the destination lacks, which it says first; undefined: that is known. */
  readonly absent?: { readonly bitmap: Uint8Array; readonly heard: () => void } | undefined;
}

export class FaultServer implements RecordSink {
  /** It serves until it is closed. */
  readonly isOver = false;
  readonly #options: FaultServerOptions;
  readonly #batcher: Batcher;
  #plaintext: Uint8Array[] = [];
  #absentBytes = 0;
  #turn: Promise<void> = Promise.resolve();
  #pages = 0;
  #zeroPages = 0;
  #bytes = 0;
  #counts = NO_COUNTS;

  constructor(options: FaultServerOptions) {
    this.#options = options;
    this.#batcher = new Batcher(REGION, options.ram, new Set(options.encodings));
  }

  /** What it has sent so far. */
  get extent(): Extent {
    return {
      pages: this.#pages,
      zeroPages: this.#zeroPages,
      bytes: this.#bytes,
      counts: this.#counts,
    };
  }

  /** Resolves when every demand so far is answered; rejects as its writer and its sealer. */
  get answered(): Promise<void> {
    return this.#turn;
  }

  begin({ kind, length }: RecordHeader): void {
    const due = this.#absentLeft > 0 ? 'absent' : 'demand';
    if (kind !== due) throw new MigError('RECORD_ORDER', `${kind} to the source, expected ${due}`);
    const isFit = kind === 'absent' ? length <= this.#absentLeft : isDemandLength(length);
    if (!isFit || length === 0) throw new MigError('RECORD_MALFORMED', `${kind} of ${length}`);
    this.#plaintext = [];
  }

  plaintext(piece: Uint8Array): void {
    this.#plaintext.push(piece);
  }

  accepted({ kind }: RecordHeader): void {
    const plaintext = Buffer.concat(this.#plaintext);
    if (kind === 'absent') {
      this.#hear(plaintext);
      return;
    }
    const pages = decodeDemand(plaintext, this.#options.ram.pageCount);
    this.#turn = this.#turn.then(() => this.#answer(pages));
  }

  get #absentLeft(): number {
    return (this.#options.absent?.bitmap.length ?? 0) - this.#absentBytes;
  }

  #hear(piece: Uint8Array): void {
    const { absent } = this.#options;
    absent?.bitmap.set(piece, this.#absentBytes);
    this.#absentBytes += piece.length;
    if (this.#absentLeft === 0) absent?.heard();
  }

  async #answer(pages: readonly number[]): Promise<void> {
    const { order, sealer, writer } = this.#options;
    for (const page of pages) {
      for (const batch of this.#batcher.batchesOf(order.answer(page))) {
        const record = sealer.seal('pages', piecesOf(batch));
        this.#counts = countRuns(this.#counts, batch.runs);
        this.#pages += batch.pages;
        this.#zeroPages += batch.zeroPages;
        this.#bytes += record.reduce((sum, piece) => sum + piece.length, 0);
        await writer.write(record);
      }
    }
  }
}
