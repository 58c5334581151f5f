/**
 * Cuts the pages to send into batches: pulls ranges, reads their pages into a buffer that is made once
 * and fits into a core's cache, tells zero pages from others, and gives each batch as a table and views
 * on that buffer. What a batch says of a page and what it has of it are of the same instant, whatever
 * the guest writes meanwhile.
 */
import { BATCH_DATA_BYTES_MAX, BATCH_PAGES_MAX, BATCH_RUNS_MAX } from '../base/limits.ts';
import { PAGE_BYTES } from '../base/units.ts';
import type { EncodingName } from '../protocol/options.ts';
import { encodeTable, type Run } from './batch.ts';
import type { PageRange } from './bitmap.ts';
import { ZeroFinder } from './zero.ts';

/** Where the pages of one region come from. */
export interface PageSource {
  /** Fills `into` from the byte `at` of the region. */
  read(into: Uint8Array, at: number): void;
}

export interface Batch {
  readonly runs: readonly Run[];
  /** Of the runs in order, in pieces; good until the next batch. */
  readonly data: readonly Uint8Array[];
  readonly pages: number;
  readonly zeroPages: number;
}

/** The plaintext of its record, in pieces. */
export const piecesOf = ({ runs, data }: Batch): readonly Uint8Array[] => [
  encodeTable(runs),
  ...data,
];

/** A run while it grows. */
type Growing = { -readonly [K in keyof Run]: Run[K] };

export class Batcher {
  readonly #region: number;
  readonly #source: PageSource;
  /** Pages of the batch under way; zero pages among them take up room until the next one. */
  readonly #buffer: Uint8Array<ArrayBuffer>;
  readonly #zeros: ZeroFinder;
  readonly #room: number;
  readonly #knowsZero: boolean;
  #runs: Growing[] = [];
  #pieces: Uint8Array[] = [];
  #pages = 0;
  #zeroPages = 0;
  /** Pages of the buffer up to the last one that is not zero. */
  #fill = 0;
  /** Where the data began that nothing else has come after. */
  #pieceStart = 0;

  /** `encodings`: that may be used; `raw` always may. */
  constructor(
    region: number,
    source: PageSource,
    encodings: ReadonlySet<EncodingName>,
    dataBytesMax = BATCH_DATA_BYTES_MAX,
  ) {
    this.#region = region;
    this.#knowsZero = encodings.has('zero');
    this.#source = source;
    this.#buffer = new Uint8Array(dataBytesMax);
    this.#zeros = new ZeroFinder(this.#buffer);
    this.#room = dataBytesMax / PAGE_BYTES;
  }

  /** The batches of `ranges`, which must be ascending and within the region; one such walk at a time. */
  *batchesOf(ranges: Iterable<PageRange>): Generator<Batch, void, void> {
    this.#begin();
    for (const { first, count } of ranges) {
      for (let page = first; page < first + count;) {
        const taken = this.#take(page, first + count - page);
        page += taken;
        if (taken > 0) continue;
        yield this.#finish();
        this.#begin();
      }
    }
    if (this.#pages > 0) yield this.#finish();
  }

  #begin(): void {
    this.#runs = [];
    this.#pieces = [];
    this.#pages = 0;
    this.#zeroPages = 0;
    this.#fill = 0;
    this.#pieceStart = 0;
  }

  /** Takes as many of `count` pages from `first` on as there is room for; 0: the batch is full. */
  #take(first: number, count: number): number {
    const start = this.#fill;
    const taken = Math.min(
      count,
      this.#room - start,
      BATCH_RUNS_MAX - this.#runs.length,
      BATCH_PAGES_MAX - this.#pages,
    );
    if (taken === 0) return 0;
    const into = this.#buffer.subarray(start * PAGE_BYTES, (start + taken) * PAGE_BYTES);
    this.#source.read(into, first * PAGE_BYTES);
    for (let i = 0; i < taken; i += 1) {
      if (this.#knowsZero && this.#zeros.isZero(start + i)) {
        this.#grow('zero', first + i);
        this.#zeroPages += 1;
        continue;
      }
      this.#grow('raw', first + i);
      if (this.#fill !== start + i) this.#cutPiece(start + i);
      this.#fill = start + i + 1;
    }
    this.#pages += taken;
    return taken;
  }

  #grow(encoding: 'zero' | 'raw', page: number): void {
    const dataBytes = encoding === 'raw' ? PAGE_BYTES : 0;
    const last = this.#runs.at(-1);
    if (last?.encoding === encoding && last.firstPage + last.pageCount === page) {
      last.pageCount += 1;
      last.dataBytes += dataBytes;
    } else {
      const region = this.#region;
      this.#runs.push({ region, encoding, firstPage: page, pageCount: 1, dataBytes });
    }
  }

  /** Ends the piece under way; the next one begins at page `next` of the buffer. */
  #cutPiece(next: number): void {
    if (this.#fill > this.#pieceStart) {
      const from = this.#pieceStart * PAGE_BYTES;
      this.#pieces.push(this.#buffer.subarray(from, this.#fill * PAGE_BYTES));
    }
    this.#pieceStart = next;
  }

  #finish(): Batch {
    this.#cutPiece(this.#fill);
    return {
      runs: this.#runs,
      data: this.#pieces,
      pages: this.#pages,
      zeroPages: this.#zeroPages,
    };
  }
}
