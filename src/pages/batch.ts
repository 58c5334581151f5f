/**
 * The plaintext of a `pages` record: what each run of pages is, then their data. Big-endian:
 *
 *     run count u32 ‖ run count × 16 bytes ‖ data of the runs in order
 *     run = region u16 │ encoding u8 │ 0 u8 │ first page u32 │ page count u32 │ data bytes u32
 *
 * Runs may overlap: the later one wins. It knows nothing of where pages come from.
 */
import { assert } from '../base/assert.ts';
import { BATCH_PAGES_MAX, BATCH_RUNS_MAX } from '../base/limits.ts';
import { PAGE_BYTES } from '../base/units.ts';
import { MigError } from '../protocol/error.ts';

interface Encoding {
  readonly byte: number;
  /** Bytes of data that stand for `pageCount` pages. */
  readonly dataBytes: (pageCount: number) => number;
}

/** How the data of a run stands for its pages. */
// prettier-ignore
const ENCODING = {
  /** Pages of zeros: no data. */
  zero: { byte: 1, dataBytes: () => 0 },
  /** The pages themselves. */
  raw: { byte: 2, dataBytes: (pageCount) => pageCount * PAGE_BYTES },
} satisfies Record<string, Encoding>;

export type EncodingName = keyof typeof ENCODING;
/** The names, as the hosts offer them to each other. */
export const ENCODINGS = Object.keys(ENCODING) as readonly EncodingName[];
const NAME_OF = new Map(ENCODINGS.map((name) => [ENCODING[name].byte, name]));

export const COUNT_BYTES = 4;
export const RUN_BYTES = 16;

export interface Run {
  readonly region: number;
  readonly encoding: EncodingName;
  readonly firstPage: number;
  readonly pageCount: number;
}

/** Bytes of data that a run has. */
export const dataBytesOf = (run: Run): number => ENCODING[run.encoding].dataBytes(run.pageCount);

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
    view.setUint32(at + 12, dataBytesOf(run));
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

/**
 * The runs of a whole table in a record of `recordBytes`, every one within its region: `regionPages`
 * has the pages of each region. Throws RECORD_MALFORMED.
 */
export function decodeTable(
  table: Uint8Array,
  recordBytes: number,
  regionPages: readonly number[],
): Run[] {
  const view = new DataView(table.buffer, table.byteOffset, table.length);
  const runs: Run[] = [];
  let total = table.length;
  let pages = 0;
  for (let at = COUNT_BYTES; at < table.length; at += RUN_BYTES) {
    const run = decodeRun(view, at, regionPages);
    runs.push(run);
    total += dataBytesOf(run);
    pages += run.pageCount;
  }
  if (total !== recordBytes) throw malformed(`runs of ${total} bytes in ${recordBytes}`);
  if (pages > BATCH_PAGES_MAX) throw malformed(`${pages} pages`);
  return runs;
}

function decodeRun(view: DataView, at: number, regionPages: readonly number[]): Run {
  const encoding = NAME_OF.get(view.getUint8(at + 2));
  if (encoding === undefined) throw malformed(`encoding ${view.getUint8(at + 2)}`);
  if (view.getUint8(at + 3) !== 0) throw malformed('a reserved byte that is not 0');
  const region = view.getUint16(at);
  const limit = regionPages[region];
  if (limit === undefined) throw malformed(`region ${region}`);
  const [firstPage, pageCount] = [view.getUint32(at + 4), view.getUint32(at + 8)];
  // Neither is above 2^32: the sum is exact.
  if (pageCount < 1 || firstPage + pageCount > limit) {
    throw malformed(`pages ${firstPage} + ${pageCount} of ${limit}`);
  }
  const run: Run = { region, encoding, firstPage, pageCount };
  if (view.getUint32(at + 12) !== dataBytesOf(run)) throw malformed('data of another length');
  return run;
}

const malformed = (detail: string): MigError => new MigError('RECORD_MALFORMED', detail);
