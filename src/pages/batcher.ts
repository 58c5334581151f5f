/**
 * Cuts the pages to send into batches: pulls ranges, tells zero pages from others, and gives each
 * batch as a table and views on the memory itself. No page is copied.
 */
import { BATCH_DATA_BYTES_MAX, BATCH_PAGES_MAX, BATCH_RUNS_MAX } from '../base/limits.ts';
import { PAGE_BYTES } from '../base/units.ts';
import { encodeTable, type Run } from './batch.ts';
import type { PageRange } from './bitmap.ts';
import type { ZeroFinder } from './zero.ts';

export interface Batch {
  /** The plaintext: the table, then a view on each raw run. */
  readonly pieces: readonly Uint8Array[];
  readonly pages: number;
  readonly zeroPages: number;
}

export interface BatcherOptions {
  readonly region: number;
  readonly memory: Uint8Array;
  readonly zeros: ZeroFinder;
  readonly dataBytesMax?: number;
}

/** A run while it grows. */
type Growing = { -readonly [K in keyof Run]: Run[K] };

/** The batches of `ranges`, which must be ascending and within the memory. */
export function* batchesOf(
  ranges: Iterable<PageRange>,
  options: BatcherOptions,
): Generator<Batch, void, void> {
  const dataPagesMax = (options.dataBytesMax ?? BATCH_DATA_BYTES_MAX) / PAGE_BYTES;
  let runs: Growing[] = [];
  let pages = 0;
  let zeroPages = 0;
  let last: Growing | undefined;
  for (const { first, count } of ranges) {
    for (let page = first; page < first + count; page += 1) {
      const encoding = options.zeros.isZero(page) ? 'zero' : 'raw';
      const joins = last?.encoding === encoding && last.firstPage + last.pageCount === page;
      const full =
        pages - zeroPages + (encoding === 'raw' ? 1 : 0) > dataPagesMax ||
        pages === BATCH_PAGES_MAX ||
        (!joins && runs.length === BATCH_RUNS_MAX);
      if (full) {
        yield finish(runs, pages, zeroPages, options.memory);
        runs = [];
        pages = 0;
        zeroPages = 0;
        last = undefined;
      }
      if (last !== undefined && joins) {
        last.pageCount += 1;
      } else {
        last = { region: options.region, encoding, firstPage: page, pageCount: 1 };
        runs.push(last);
      }
      pages += 1;
      if (encoding === 'zero') zeroPages += 1;
    }
  }
  if (runs.length > 0) yield finish(runs, pages, zeroPages, options.memory);
}

function finish(runs: Run[], pages: number, zeroPages: number, memory: Uint8Array): Batch {
  const pieces: Uint8Array[] = [encodeTable(runs)];
  for (const { encoding, firstPage, pageCount } of runs) {
    if (encoding === 'zero') continue;
    pieces.push(memory.subarray(firstPage * PAGE_BYTES, (firstPage + pageCount) * PAGE_BYTES));
  }
  return { pieces, pages, zeroPages };
}
