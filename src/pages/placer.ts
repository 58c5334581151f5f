/**
 * Puts the pages of a batch where they belong, as the plaintext arrives in any pieces. The whole
 * table is checked, and every run found to lie within its region, before the first byte is placed:
 * so even a forged batch can only change memory that the transfer may change anyway.
 */
import { assert } from '../base/assert.ts';
import { PAGE_BYTES } from '../base/units.ts';
import { COUNT_BYTES, dataBytesOf, decodeTable, tableBytes, type Run } from './batch.ts';
import { BATCH_RUNS_MAX } from '../base/limits.ts';
import { RUN_BYTES } from './batch.ts';
import { MigError } from '../protocol/error.ts';

/** Where the pages of one region go. */
export interface RegionSink {
  readonly pageCount: number;
  /** Puts `bytes`, which are used up at once, at the byte `at` of the region. */
  write(bytes: Uint8Array, at: number): void;
}

export interface Placed {
  readonly pages: number;
  readonly zeroPages: number;
}

const ZEROS = new Uint8Array(16 * PAGE_BYTES);

type Stage =
  | { readonly kind: 'idle' }
  | { readonly kind: 'table'; readonly recordBytes: number; need: number }
  | { readonly kind: 'data'; readonly runs: readonly Run[]; run: number; done: number };

export class Placer {
  readonly #regions: readonly RegionSink[];
  readonly #regionPages: readonly number[];
  readonly #table = new Uint8Array(COUNT_BYTES + BATCH_RUNS_MAX * RUN_BYTES);
  #tableFill = 0;
  #stage: Stage = { kind: 'idle' };
  #writeZeros = true;

  constructor(regions: readonly RegionSink[]) {
    this.#regions = regions;
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
    let pages = 0;
    let zeroPages = 0;
    for (const run of stage.runs) {
      pages += run.pageCount;
      if (run.encoding === 'zero') zeroPages += run.pageCount;
    }
    return { pages, zeroPages };
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
    const runs = decodeTable(table, recordBytes, this.#regionPages);
    this.#stage = this.#advance({ kind: 'data', runs, run: 0, done: 0 });
    return taken;
  }

  #takeData(stage: Extract<Stage, { kind: 'data' }>, piece: Uint8Array, at: number): number {
    const run = stage.runs[stage.run];
    assert(run !== undefined, 'plaintext beyond the batch');
    const taken = Math.min(dataBytesOf(run) - stage.done, piece.length - at);
    const region = this.#regions[run.region];
    assert(region !== undefined, 'a region that decodeTable did not check');
    region.write(piece.subarray(at, at + taken), run.firstPage * PAGE_BYTES + stage.done);
    stage.done += taken;
    if (stage.done === dataBytesOf(run)) {
      stage.run += 1;
      stage.done = 0;
      this.#advance(stage);
    }
    return taken;
  }

  /** Moves over runs without data, to the next one with data or to the end. */
  #advance(stage: Extract<Stage, { kind: 'data' }>): Stage {
    for (; stage.run < stage.runs.length; stage.run += 1) {
      const run = stage.runs[stage.run];
      if (run === undefined || dataBytesOf(run) > 0) break;
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
