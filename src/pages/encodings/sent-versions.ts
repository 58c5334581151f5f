/**
 * Pages as one channel sent them last, in bounded memory, to send what has changed in them. A page that is
 * written again and again is what it is for; so it keeps those that are sent in later rounds.
 *
 * Why what it keeps is what the destination has: a page always goes over the same channel, in order, and
 * is placed by it alone; every version that is sent is kept or the page dropped; and no guest runs there
 * before the last round has come. A session that follows a broken one begins with nothing kept.
 */
import { PAGE_BYTES } from '../../base/units.ts';

const WORDS = PAGE_BYTES / 4;
/** Slots looked at for one that may be given away. */
const LOOKS = 8;

export class SentVersions {
  readonly #slotCount: number;
  #words: Uint32Array | undefined;
  readonly #slotOf = new Map<number, number>();
  /** By slot: its page, and the round in which that was sent last. */
  readonly #pages: number[] = [];
  readonly #rounds: number[] = [];
  #hand = 0;

  constructor(bytesMax: number) {
    this.#slotCount = Math.floor(bytesMax / PAGE_BYTES);
  }

  /**
   * Puts what has changed in `page` since it was sent (now XOR then) to `into` and keeps it as it is
   * `now`. False when that is not known, or when more than a quarter has changed: then what is in
   * `into` is of no use.
   */
  change(page: number, now: Uint32Array, into: Uint32Array): boolean {
    const slot = this.#slotOf.get(page);
    if (slot === undefined || this.#words === undefined) return false;
    const from = slot * WORDS;
    let changed = 0;
    for (let at = 0; at < WORDS; at += 1) {
      const word = (now[at] ?? 0) ^ (this.#words[from + at] ?? 0);
      into[at] = word;
      if (word !== 0) changed += 1;
    }
    return changed <= WORDS / 4;
  }

  /** `page` is sent as it is `now`, in `round`. */
  keep(page: number, now: Uint32Array, round: number): void {
    const slot = this.#slotOf.get(page) ?? this.#slotFor(page, round);
    if (slot === undefined) return;
    this.#words ??= new Uint32Array(this.#slotCount * WORDS);
    this.#words.set(now, slot * WORDS);
    this.#rounds[slot] = round;
  }

  /** So many pages from `first` on are sent, and not kept. */
  drop(first: number, count: number): void {
    if (this.#slotOf.size === 0) return;
    if (count > this.#slotOf.size) {
      for (const page of this.#slotOf.keys()) {
        if (page >= first && page < first + count) this.#forget(page);
      }
      return;
    }
    for (let page = first; page < first + count; page += 1) this.#forget(page);
  }

  #forget(page: number): void {
    const slot = this.#slotOf.get(page);
    if (slot === undefined) return;
    this.#slotOf.delete(page);
    this.#rounds[slot] = Number.NEGATIVE_INFINITY;
  }

  /**
   * A slot that was never used, or whose page was not sent in this round or the last one. A working set that is
   * too large is kept in part, and not turned over in vain.
   */
  #slotFor(page: number, round: number): number | undefined {
    if (this.#pages.length < this.#slotCount) {
      this.#slotOf.set(page, this.#pages.length);
      this.#rounds.push(round);
      return this.#pages.push(page) - 1;
    }
    for (let look = 0; look < Math.min(LOOKS, this.#slotCount); look += 1) {
      const slot = this.#hand;
      this.#hand = (this.#hand + 1) % this.#slotCount;
      if ((this.#rounds[slot] ?? round) >= round - 1) continue;
      const old = this.#pages[slot];
      if (old !== undefined && this.#slotOf.get(old) === slot) this.#slotOf.delete(old);
      this.#slotOf.set(page, slot);
      this.#pages[slot] = page;
      return slot;
    }
    return undefined;
  }
}
