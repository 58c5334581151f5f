/**
 * Dirty pages by the guest's own word: its store path marks each page after it wrote it. Slower, and
 * only as good as the store path; for kernels without asynchronous write protection.
 */
import type { DirtyTracker } from './tracker.ts';

/** The log: one bit a page in shared memory, in 32-bit words as Atomics need. */
export const dirtyLogBytes = (pages: number): number => Math.ceil(pages / 32) * 4;

/**
 * Marks a page as written. To be called after the store: marked before it, the page could be
 * collected and sent between the mark and the store, and the store would be lost.
 */
export function markWritten(log: Int32Array, page: number): void {
  Atomics.or(log, page >> 5, 1 << (page & 31));
}

export class LogTracker implements DirtyTracker {
  readonly kind = 'log';
  readonly #log: Int32Array;

  constructor(log: SharedArrayBuffer) {
    this.#log = new Int32Array(log);
  }

  arm(): void {
    for (let word = 0; word < this.#log.length; word += 1) Atomics.store(this.#log, word, 0);
  }

  collect(bitmap: Uint8Array): void {
    for (let word = 0; word < this.#log.length; word += 1) {
      if (this.#log[word] === 0) continue;
      const bits = Atomics.exchange(this.#log, word, 0);
      for (let i = 0; i < 4; i += 1) {
        const at = word * 4 + i;
        if (at < bitmap.length) bitmap[at] = (bitmap[at] ?? 0) | ((bits >>> (8 * i)) & 0xff);
      }
    }
  }

  // The marks go on: they cost little and the store path needs no switch.
  disarm(): void {}

  [Symbol.dispose](): void {}
}
