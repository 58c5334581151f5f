/**
 * The plaintext of a `pages` record: what each run of pages is, then their data. Big-endian:
 *
 *     run count u32 ‖ run count × 16 bytes ‖ data of the runs in order
 *     run = region u16 │ encoding u8 │ 0 u8 │ first page u32 │ page count u32 │ data bytes u32
 *
 * How the data of a run stands for its pages is its encoding. A frame may stand for the pages of several
 * runs: the first of them has its data, and those that follow it directly, of the same encoding, have
 * none. Runs may overlap: the later one wins. It knows nothing of where pages come from.
 */
import { assert } from '../base/assert.ts';
import {
  BATCH_PAGES_MAX,
  BATCH_RUNS_MAX,
  FRAME_OVERHEAD_BYTES_MAX,
  FRAME_PAGES_MAX,
} from '../base/limits.ts';
import { PAGE_BYTES } from '../base/units.ts';
import { MigError } from '../protocol/error.ts';
import { ENCODING_NAMES, type EncodingName } from '../protocol/options.ts';

/** A page that another one is the same as: its number, u32. */
export const SOURCE_BYTES = 4;

type Encoding =
  /** So many bytes of data a page. */
  | { readonly byte: number; readonly bytesPerPage: number }
  /** One zstd frame for one run or several. */
  | { readonly byte: number; readonly bytesPerPage: 'frame' };

// prettier-ignore
const ENCODING: { readonly [E in EncodingName]: Encoding } = {
  /** Pages of zeros: no data. */
  zero: { byte: 1, bytesPerPage: 0 },
  /** The pages themselves. */
  raw: { byte: 2, bytesPerPage: PAGE_BYTES },
  /** The pages, compressed. */
  zstd: { byte: 3, bytesPerPage: 'frame' },
  /** The pages XOR what the destination has there, compressed. */
  delta: { byte: 4, bytesPerPage: 'frame' },
  /** Each the same as a lower page of its region: which one. */
  duplicate: { byte: 5, bytesPerPage: SOURCE_BYTES },
};
const NAME_OF = new Map(ENCODING_NAMES.map((name) => [ENCODING[name].byte, name]));

export const COUNT_BYTES = 4;
export const RUN_BYTES = 16;

export interface Run {
  readonly region: number;
  readonly encoding: EncodingName;
  readonly firstPage: number;
  readonly pageCount: number;
  readonly dataBytes: number;
}

/** The count and the table of `runs`; their data follows. */
export function encodeTable(runs: readonly Run[]): Uint8Array<ArrayBuffer> {
  assert(runs.length >= 1 && runs.length <= BATCH_RUNS_MAX, 'a batch of too few or many runs');
  const bytes = new Uint8Array(COUNT_BYTES + runs.length * RUN_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, runs.length);
  for (const [index, run] of runs.entries()) {
    const at = COUNT_BYTES + index * RUN_BYTES;
    view.setUint16(at, run.region);
    view.setUint8(at + 2, ENCODING[run.encoding].byte);
    view.setUint32(at + 4, run.firstPage);
    view.setUint32(at + 8, run.pageCount);
    view.setUint32(at + 12, run.dataBytes);
  }
  return bytes;
}

/**
 * Bytes of the table that begins with the 4 bytes of `head`, in a record of `recordBytes`. Throws
 * RECORD_MALFORMED.
 */
export function tableBytes(head: Uint8Array, recordBytes: number): number {
  const count = new DataView(head.buffer, head.byteOffset, COUNT_BYTES).getUint32(0);
  if (count < 1 || count > BATCH_RUNS_MAX) throw malformed(`${count} runs`);
  const bytes = COUNT_BYTES + count * RUN_BYTES;
  if (bytes > recordBytes) throw malformed(`${count} runs in ${recordBytes} bytes`);
  return bytes;
}

/** What a table is held against. */
export interface TableTerms {
  /** The pages of each region. */
  readonly regionPages: readonly number[];
  /** Those that were agreed on. */
  readonly encodings: ReadonlySet<EncodingName>;
}

/**
 * The runs of a whole table in a record of `recordBytes`, every one within its region and with as much
 * data as its encoding may have. Throws RECORD_MALFORMED.
 */
export function decodeTable(table: Uint8Array, recordBytes: number, terms: TableTerms): Run[] {
  const view = new DataView(table.buffer, table.byteOffset, table.length);
  const runs: Run[] = [];
  let total = table.length;
  let pages = 0;
  for (let at = COUNT_BYTES; at < table.length; at += RUN_BYTES) {
    const run = decodeRun(view, at, terms);
    runs.push(run);
    total += run.dataBytes;
    pages += run.pageCount;
  }
  if (total !== recordBytes) throw malformed(`runs of ${total} bytes in ${recordBytes}`);
  if (pages > BATCH_PAGES_MAX) throw malformed(`${pages} pages`);
  for (let at = 0; at < runs.length; at += 1) at += checkData(runs, at) - 1;
  return runs;
}

function decodeRun(view: DataView, at: number, { regionPages, encodings }: TableTerms): Run {
  const encoding = NAME_OF.get(view.getUint8(at + 2));
  if (encoding === undefined || !encodings.has(encoding)) {
    throw malformed(`encoding ${view.getUint8(at + 2)}`);
  }
  if (view.getUint8(at + 3) !== 0) throw malformed('a reserved byte that is not 0');
  const region = view.getUint16(at);
  const limit = regionPages[region];
  if (limit === undefined) throw malformed(`region ${region}`);
  const [firstPage, pageCount] = [view.getUint32(at + 4), view.getUint32(at + 8)];
  // Neither is above 2^32: the sum is exact.
  if (pageCount < 1 || firstPage + pageCount > limit) {
    throw malformed(`pages ${firstPage} + ${pageCount} of ${limit}`);
  }
  return { region, encoding, firstPage, pageCount, dataBytes: view.getUint32(at + 12) };
}

/** Checks the data of the run at `index`, and of those that share it; returns how many there are. */
function checkData(runs: readonly Run[], index: number): number {
  const run = runs[index];
  assert(run !== undefined, 'a run beyond the table');
  const { bytesPerPage } = ENCODING[run.encoding];
  if (bytesPerPage !== 'frame') {
    if (run.dataBytes !== run.pageCount * bytesPerPage) throw malformed('data of another length');
    return 1;
  }
  const shared = sharersOf(runs, index);
  const pages = pagesOf(shared);
  if (pages > FRAME_PAGES_MAX) throw malformed(`a frame of ${pages} pages`);
  if (run.dataBytes < 1 || run.dataBytes > pages * PAGE_BYTES + FRAME_OVERHEAD_BYTES_MAX) {
    throw malformed(`a frame of ${run.dataBytes} bytes`);
  }
  return shared.length;
}

/** The runs that the data of the one at `index` stands for: itself, and those that follow without data. */
export function sharersOf(runs: readonly Run[], index: number): readonly Run[] {
  const { encoding } = runs[index] ?? {};
  if (encoding === undefined || ENCODING[encoding].bytesPerPage !== 'frame') {
    return runs.slice(index, index + 1);
  }
  let end = index + 1;
  while (runs[end]?.encoding === encoding && runs[end]?.dataBytes === 0) end += 1;
  return runs.slice(index, end);
}

export const pagesOf = (runs: readonly Run[]): number =>
  runs.reduce((sum, { pageCount }) => sum + pageCount, 0);

const malformed = (detail: string): MigError => new MigError('RECORD_MALFORMED', detail);
