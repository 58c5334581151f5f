/** What was sent by each encoding, to tell why so much was sent. */
import { ENCODING_NAMES, type EncodingName } from '../../protocol/options.ts';
import { RUN_BYTES, type Run } from '../batch.ts';

export interface EncodingCount {
  readonly pages: number;
  /** Of their data and of the runs that say so, before they are sealed. */
  readonly bytes: number;
}
export type EncodingCounts = { readonly [E in EncodingName]: EncodingCount };

const each = (count: (name: EncodingName) => EncodingCount): EncodingCounts =>
  Object.fromEntries(ENCODING_NAMES.map((name) => [name, count(name)])) as EncodingCounts;

export const NO_COUNTS = each(() => ({ pages: 0, bytes: 0 }));

export const sumCounts = (a: EncodingCounts, b: EncodingCounts): EncodingCounts =>
  each((name) => ({
    pages: a[name].pages + b[name].pages,
    bytes: a[name].bytes + b[name].bytes,
  }));

export function countRuns(before: EncodingCounts, runs: readonly Run[]): EncodingCounts {
  const counts = each((name) => ({ ...before[name] })) as {
    [E in EncodingName]: { -readonly [K in keyof EncodingCount]: EncodingCount[K] };
  };
  for (const { encoding, pageCount, dataBytes } of runs) {
    counts[encoding].pages += pageCount;
    counts[encoding].bytes += RUN_BYTES + dataBytes;
  }
  return counts;
}
