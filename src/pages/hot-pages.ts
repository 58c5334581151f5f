/**
 * Pages that a guest writes again and again: sent in a round, each would have to be sent once more. They
 * are taken out of a round and kept for a later one. What is owed to the destination is always the
 * bitmap and what was taken out of it together: taking out and putting back move bits between the two,
 * and nothing here clears one. A bitmap: 1 bit a page, least significant bit first.
 */
import { assert } from '../base/assert.ts';

/** Written in each of so many collections in a row: it will be written in the next one too. */
export const HOT_COLLECTIONS = 3;

export class HotPages {
  /** The last collections, the newest last. */
  readonly #recent: Uint8Array[] = [];
  /** Taken out, and how many. */
  #left = new Uint8Array(0);
  #leftCount = 0;

  get leftCount(): number {
    return this.#leftCount;
  }

  /** `written`: the pages of one more collection, and no others. */
  remember(written: Uint8Array): void {
    // The oldest one's memory is used again.
    const oldest = this.#recent.length === HOT_COLLECTIONS ? this.#recent.shift() : undefined;
    const copy = oldest ?? new Uint8Array(written.length);
    copy.set(written);
    this.#recent.push(copy);
  }

  /** What follows says nothing of what was before, as after a connection that broke. */
  forget(): void {
    this.#recent.length = 0;
  }

  /** Puts back what was taken out. */
  putBack(owed: Uint8Array): void {
    if (this.#leftCount === 0) return;
    assert(owed.length === this.#left.length, 'another bitmap than the one taken out of');
    for (const [at, byte] of this.#left.entries()) owed[at] = (owed[at] ?? 0) | byte;
    this.#left.fill(0);
    this.#leftCount = 0;
  }

  /** Takes up to `countMax` hot pages out of what is owed, the lowest first; returns how many. */
  takeOut(owed: Uint8Array, countMax: number): number {
    this.putBack(owed);
    if (this.#recent.length < HOT_COLLECTIONS || countMax <= 0) return 0;
    if (this.#left.length !== owed.length) this.#left = new Uint8Array(owed.length);
    for (let at = 0; at < owed.length && this.#leftCount < countMax; at += 1) {
      let hot = owed[at] ?? 0;
      for (const written of this.#recent) hot &= written[at] ?? 0;
      for (; hot !== 0 && this.#leftCount < countMax; hot &= hot - 1)
        this.#move(owed, at, hot & -hot);
    }
    return this.#leftCount;
  }

  #move(owed: Uint8Array, at: number, bit: number): void {
    this.#left[at] = (this.#left[at] ?? 0) | bit;
    owed[at] = (owed[at] ?? 0) & ~bit;
    this.#leftCount += 1;
  }
}
