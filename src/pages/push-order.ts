/**
 * In which order the pages of a post-copy leave: on and on behind the last page that was asked for, for
 * what a guest touches next is near to what it touched; and around again, until nothing is open. Several
 * threads push by one cursor, and one answers faults.
 */
import type { PageRange } from './bitmap.ts';
import { WORD_PAGES, type SharedBitmap } from './shared-bitmap.ts';

/** What comes along with a page that was asked for: at least, and where one follows the other, at most. */
export const WINDOW_PAGES_MIN = 8;
export const WINDOW_PAGES_MAX = 64;

export class PushOrder {
  readonly #open: SharedBitmap;
  readonly #counters: Int32Array;
  readonly #cursor: number;
  #window: PageRange = { first: 0, count: 0 };

  /** `cursor`: the index of the word in `counters` that all threads share. */
  constructor(open: SharedBitmap, counters: Int32Array, cursor: number) {
    this.#open = open;
    this.#counters = counters;
    this.#cursor = cursor;
  }

  /** What is to be pushed by this thread; ends when no page is open. */
  *runs(): Generator<PageRange, void, void> {
    const { wordCount } = this.#open;
    for (let empty = 0; empty < wordCount;) {
      const word = (Atomics.add(this.#counters, this.#cursor, 1) >>> 0) % wordCount;
      const runs = this.#open.takeWord(word);
      empty = runs.length === 0 ? empty + 1 : 0;
      yield* runs;
    }
    // The cursor may have jumped over some.
    for (let word = 0; word < wordCount; word += 1) yield* this.#open.takeWord(word);
  }

  /** What answers a fault: the page itself, whoever has it, and what is open behind it. The push follows. */
  answer(page: number): PageRange[] {
    const { pageCount } = this.#open;
    const { first, count } = this.#window;
    const follows = page >= first && page < first + count + WINDOW_PAGES_MAX;
    const size = follows ? Math.min(count * 2, WINDOW_PAGES_MAX) : WINDOW_PAGES_MIN;
    this.#window = { first: page, count: size };
    const ranges: { first: number; count: number }[] = [{ first: page, count: 1 }];
    this.#open.take(page);
    const end = Math.min(page + size, pageCount);
    for (let next = page + 1; next < end; next += 1) {
      if (!this.#open.take(next)) continue;
      const last = ranges.at(-1);
      if (last !== undefined && last.first + last.count === next) last.count += 1;
      else ranges.push({ first: next, count: 1 });
    }
    Atomics.store(this.#counters, this.#cursor, Math.floor(end / WORD_PAGES));
    return ranges;
  }
}
