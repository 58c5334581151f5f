/**
 * A bitmap whose bits several threads clear at once, in memory that all of them see: 1 bit a page, least
 * significant bit first. Of several threads that take a page only one gets it.
 */
import { assert } from '../base/assert.ts';
import type { PageRange } from './bitmap.ts';

/** Pages of one word. */
export const WORD_PAGES = 32;

export class SharedBitmap {
  readonly pageCount: number;
  readonly #words: Int32Array;

  /** Over whole words: `bytes` may be longer than the pages need. */
  constructor(bytes: Uint8Array, pageCount: number) {
    const words = Math.ceil(pageCount / WORD_PAGES);
    assert(bytes.byteOffset % 4 === 0 && bytes.length >= words * 4, 'a bitmap of no whole words');
    this.pageCount = pageCount;
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, words);
  }

  get wordCount(): number {
    return this.#words.length;
  }

  has(page: number): boolean {
    return ((Atomics.load(this.#words, page >>> 5) >>> (page & 31)) & 1) === 1;
  }

  /** Clears a bit; whether it was set. */
  take(page: number): boolean {
    const bit = 1 << (page & 31);
    return (Atomics.and(this.#words, page >>> 5, ~bit) & bit) !== 0;
  }

  /** Clears a word; the runs of pages whose bits were set. */
  takeWord(word: number): PageRange[] {
    return runsIn(Atomics.exchange(this.#words, word, 0), word * WORD_PAGES);
  }
}

/** The runs of set bits, of a word whose first bit is page `base`. */
function runsIn(bits: number, base: number): PageRange[] {
  const runs: PageRange[] = [];
  for (let rest = bits | 0, at = base; rest !== 0;) {
    const zeros = lowestSet(rest);
    rest = (rest >>> zeros) | 0;
    const ones = lowestSet(~rest);
    runs.push({ first: at + zeros, count: ones });
    at += zeros + ones;
    // A shift by 32 is one by 0.
    rest = ones === WORD_PAGES ? 0 : (rest >>> ones) | 0;
  }
  return runs;
}

/** The place of the lowest bit that is set; 32 when none is. */
const lowestSet = (bits: number): number =>
  bits === 0 ? WORD_PAGES : 31 - Math.clz32(bits & -bits);
