/**
 * Puts the pages of a batch where they belong, as the plaintext arrives in any pieces. The whole
 * table is checked, and every run found to lie within its region, before the first byte is placed:
 * so even a forged batch can only change memory that the transfer may change anyway. What a frame expands
 * to is bounded by the pages of its runs.
 */
import { assert } from '../base/assert.ts';
import { PAGE_BYTES } from '../base/units.ts';
import { BATCH_RUNS_MAX } from '../base/limits.ts';
import { MigError } from '../protocol/error.ts';
import type { EncodingName } from '../protocol/options.ts';
import {
  COUNT_BYTES,
  decodeTable,
  pagesOf,
  RUN_BYTES,
  sharersOf,
  SOURCE_BYTES,
  tableBytes,
  type Run,
} from './batch.ts';
import { expand } from './encodings/frame.ts';
import { countRuns, NO_COUNTS, type EncodingCounts } from './encodings/counts.ts';

/** Where the pages of one region go. */
export interface RegionSink {
  readonly pageCount: number;
  /** Puts `bytes`, which are used up at once, at the byte `at` of the region. */
  write(bytes: Uint8Array, at: number): void;
  /**
   * Fills `into` from the byte `at` of the region with what was put there. Absent where a guest runs, whose
   * memory is its own: then nothing that rests on it is taken.
   */
  read?(into: Uint8Array, at: number): void;
}

export interface Placed {
  readonly pages: number;
  readonly zeroPages: number;
  readonly counts: EncodingCounts;
}

const ZEROS = new Uint8Array(16 * PAGE_BYTES);

type Stage =
  | { readonly kind: 'idle' }
  | { readonly kind: 'table'; readonly recordBytes: number; need: number }
  | {
      readonly kind: 'data';
      readonly runs: readonly Run[];
      run: number;
      done: number;
      /** Data so far that says nothing before there is all of it. */
      readonly parts: Uint8Array[];
    };

/** What is read of a region at a time, to change it. */
const BASE_PAGES = 16;

export class Placer {
  readonly #regions: readonly RegionSink[];
  readonly #regionPages: readonly number[];
  readonly #table = new Uint8Array(COUNT_BYTES + BATCH_RUNS_MAX * RUN_BYTES);
  #tableFill = 0;
  #stage: Stage = { kind: 'idle' };
  #writeZeros = true;
  readonly #encodings: ReadonlySet<EncodingName>;
  #base: Uint8Array | undefined;

  /** `encodings`: those that were agreed on. */
  constructor(regions: readonly RegionSink[], encodings: ReadonlySet<EncodingName>) {
    this.#regions = regions;
    this.#encodings = encodings;
    this.#regionPages = regions.map((region) => region.pageCount);
  }

  /**
   * Begins a batch of `recordBytes`. Memory that nothing was ever written to is zero: with
   * `memoryIsFresh` (round 0, which sends each page once) zero pages need not be written, nor even
   * allocated. Throws RECORD_MALFORMED.
   */
  begin(recordBytes: number, memoryIsFresh: boolean): void {
    assert(this.#stage.kind === 'idle', 'a batch begun within another');
    if (recordBytes < COUNT_BYTES) {
      throw new MigError('RECORD_MALFORMED', `a batch of ${recordBytes} bytes`);
    }
    this.#writeZeros = !memoryIsFresh;
    this.#tableFill = 0;
    this.#stage = { kind: 'table', recordBytes, need: COUNT_BYTES };
  }

  /** The next piece of plaintext; never more than the batch has. Throws RECORD_MALFORMED. */
  push(piece: Uint8Array): void {
    let at = 0;
    while (at < piece.length) {
      const stage = this.#stage;
      assert(stage.kind !== 'idle', 'plaintext beyond the batch');
      if (stage.kind === 'table') at += this.#takeTable(stage, piece, at);
      else at += this.#takeData(stage, piece, at);
    }
  }

  /** Ends the batch, all of which was pushed. */
  end(): Placed {
    const stage = this.#stage;
    assert(stage.kind === 'data' && stage.run === stage.runs.length, 'a batch ended too early');
    this.#stage = { kind: 'idle' };
    const counts = countRuns(NO_COUNTS, stage.runs);
    return { pages: pagesOf(stage.runs), zeroPages: counts.zero.pages, counts };
  }

  #takeTable(stage: Extract<Stage, { kind: 'table' }>, piece: Uint8Array, at: number): number {
    const taken = Math.min(stage.need - this.#tableFill, piece.length - at);
    this.#table.set(piece.subarray(at, at + taken), this.#tableFill);
    this.#tableFill += taken;
    if (this.#tableFill < stage.need) return taken;
    const { recordBytes } = stage;
    if (stage.need === COUNT_BYTES) {
      stage.need = tableBytes(this.#table, recordBytes);
      return taken;
    }
    const table = this.#table.subarray(0, stage.need);
    const [regionPages, encodings] = [this.#regionPages, this.#encodings];
    const runs = decodeTable(table, recordBytes, { regionPages, encodings });
    this.#stage = this.#advance({ kind: 'data', runs, run: 0, done: 0, parts: [] });
    return taken;
  }

  #takeData(stage: Extract<Stage, { kind: 'data' }>, piece: Uint8Array, at: number): number {
    const run = stage.runs[stage.run];
    assert(run !== undefined, 'plaintext beyond the batch');
    const taken = Math.min(run.dataBytes - stage.done, piece.length - at);
    const bytes = piece.subarray(at, at + taken);
    const isWhole = stage.done + taken === run.dataBytes;
    if (run.encoding === 'raw') {
      this.#region(run).write(bytes, run.firstPage * PAGE_BYTES + stage.done);
    } else {
      stage.parts.push(bytes);
      if (isWhole) this.#decode(stage, joined(stage.parts.splice(0)));
    }
    stage.done += taken;
    if (isWhole) {
      stage.run += sharersOf(stage.runs, stage.run).length;
      stage.done = 0;
      this.#advance(stage);
    }
    return taken;
  }

  #region({ region }: Run): RegionSink {
    const sink = this.#regions[region];
    assert(sink !== undefined, 'a region that decodeTable did not check');
    return sink;
  }

  /** Places the pages that the `data` of the run under way stands for. */
  #decode({ runs, run }: Extract<Stage, { kind: 'data' }>, data: Uint8Array): void {
    const sharers = sharersOf(runs, run);
    const [first] = sharers;
    assert(first !== undefined, 'data beyond the batch');
    if (first.encoding === 'duplicate') {
      this.#copy(first, data);
      return;
    }
    const pages = expand(data, pagesOf(sharers) * PAGE_BYTES);
    let at = 0;
    for (const each of sharers) {
      const bytes = pages.subarray(at, at + each.pageCount * PAGE_BYTES);
      at += bytes.length;
      if (each.encoding === 'delta') this.#change(each, bytes);
      else this.#region(each).write(bytes, each.firstPage * PAGE_BYTES);
    }
  }

  /** Each page is the same as a lower one, which `data` names. */
  #copy(run: Run, data: Uint8Array): void {
    const base = this.#readable(run);
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    for (let index = 0; index < run.pageCount; index += 1) {
      const source = view.getUint32(index * SOURCE_BYTES);
      const page = run.firstPage + index;
      if (source >= page) throw malformed(`page ${page} the same as ${source}`);
      const bytes = base(source * PAGE_BYTES, PAGE_BYTES);
      this.#region(run).write(bytes, page * PAGE_BYTES);
    }
  }

  /** The pages of the run are what is there XOR `difference`. */
  #change(run: Run, difference: Uint8Array): void {
    const base = this.#readable(run);
    const start = run.firstPage * PAGE_BYTES;
    for (let at = 0; at < difference.length; at += BASE_PAGES * PAGE_BYTES) {
      const part = difference.subarray(at, at + BASE_PAGES * PAGE_BYTES);
      const bytes = base(start + at, part.length);
      xor(bytes, part);
      this.#region(run).write(bytes, start + at);
    }
  }

  /** Reads what the region of a run has; good until it is called again. */
  #readable(run: Run): (at: number, length: number) => Uint8Array {
    const region = this.#region(run);
    if (region.read === undefined) throw malformed(`${run.encoding} of what is the guest’s`);
    const buffer = (this.#base ??= new Uint8Array(BASE_PAGES * PAGE_BYTES));
    return (at, length) => {
      const into = buffer.subarray(0, length);
      region.read?.(into, at);
      return into;
    };
  }

  /** Moves over runs without data, to the next one with data or to the end. */
  #advance(stage: Extract<Stage, { kind: 'data' }>): Stage {
    for (; stage.run < stage.runs.length; stage.run += 1) {
      const run = stage.runs[stage.run];
      if (run === undefined || run.dataBytes > 0) break;
      if (!this.#writeZeros) continue;
      this.#writeZeroPages(run);
    }
    return stage;
  }

  #writeZeroPages({ region, firstPage, pageCount }: Run): void {
    const end = (firstPage + pageCount) * PAGE_BYTES;
    for (let at = firstPage * PAGE_BYTES; at < end; at += ZEROS.length) {
      this.#regions[region]?.write(ZEROS.subarray(0, end - at), at);
    }
  }
}

const malformed = (detail: string): MigError => new MigError('RECORD_MALFORMED', detail);

const joined = (parts: readonly Uint8Array[]): Uint8Array => {
  const [first] = parts;
  return parts.length === 1 && first !== undefined ? first : Buffer.concat(parts);
};

/** Whole words; the buffers of both begin at one. */
function xor(into: Uint8Array, bytes: Uint8Array): void {
  const a = new Uint32Array(into.buffer, into.byteOffset, into.length / 4);
  const b = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  for (const [at, word] of b.entries()) a[at] = (a[at] ?? 0) ^ word;
}
