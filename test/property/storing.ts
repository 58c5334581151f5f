/** The store path of the tests of dirty tracking, and a thread that goes through it again and again. */
import { isMainThread, workerData } from 'node:worker_threads';
import { PAGE_BYTES } from '../../src/base/units.ts';
import { markWritten } from '../../src/guest/dirty/log.ts';
import { viewOf } from '../../src/native/mapping.ts';

/** What the thread works on; with a log it marks there what it wrote. */
export interface StoringSetup {
  readonly address: bigint;
  readonly bytes: number;
  readonly log: SharedArrayBuffer | undefined;
  /** A word of its own: the thread ends when it is not 0. */
  readonly stop: SharedArrayBuffer;
}

const WORDS = PAGE_BYTES / 4;

/** Each page counts its stores, somewhere within it. */
const counterAt = (page: number): number => page * WORDS + (page % WORDS);

export const counterOf = (words: Uint32Array, page: number): number => words[counterAt(page)] ?? 0;

export function storeTo(page: number, words: Uint32Array, log: Int32Array | undefined): void {
  words[counterAt(page)] = counterOf(words, page) + 1;
  if (log !== undefined) markWritten(log, page);
}

if (!isMainThread) {
  const { address, bytes, log, stop } = workerData as StoringSetup;
  const words = new Uint32Array(viewOf(address, bytes));
  const marks = log === undefined ? undefined : new Int32Array(log);
  const pages = bytes / PAGE_BYTES;
  const end = new Int32Array(stop);
  for (let i = 0; Atomics.load(end, 0) === 0; i += 1)
    storeTo((Math.imul(i, 0x9e3779b1) >>> 0) % pages, words, marks);
}
