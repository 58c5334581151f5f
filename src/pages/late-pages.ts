/**
 * Where pages go that come while their guest runs: each once, for from then on it is the guest's. A
 * page that came already, or that is another thread's to place, is passed over. What is absent is said in
 * memory that outlives this process; a page counts as there when all of it is.
 */
import { PAGE_BYTES } from '../base/units.ts';
import type { RegionSink } from './placer.ts';
import type { SharedBitmap } from './shared-bitmap.ts';

export interface Absence {
  /** Pages that are not there yet. */
  readonly absent: SharedBitmap;
  /** Those of them that no thread has taken on. */
  readonly open: SharedBitmap;
  readonly counters: Int32Array;
  /** The index of the word in `counters` that counts the absent pages. */
  readonly counter: number;
}

export class LatePages implements RegionSink {
  readonly #region: RegionSink;
  readonly #absence: Absence;
  readonly #whole: () => void;
  /** Whether the page that a piece may end in the middle of is ours. */
  #isOurs = false;
  /** Placed since it was asked last. */
  #placed = 0;

  /** `whole` is called by the thread that places the last page. */
  constructor(region: RegionSink, absence: Absence, whole: () => void) {
    this.#region = region;
    this.#absence = absence;
    this.#whole = whole;
  }

  get pageCount(): number {
    return this.#region.pageCount;
  }

  /** Pages placed since the last call. */
  takePlaced(): number {
    const placed = this.#placed;
    this.#placed = 0;
    return placed;
  }

  write(bytes: Uint8Array, at: number): void {
    for (let from = 0; from < bytes.length;) {
      const to = this.#ours(bytes.length, at, from);
      if (to > from) this.#put(bytes.subarray(from, to), at + from);
      from = this.#othersUpTo(bytes.length, at, to);
    }
  }

  /** How far from byte `from` of a piece at `at` the pages are ours. */
  #ours(length: number, at: number, from: number): number {
    let to = from;
    for (; to < length; to = this.#pageEnd(length, at, to)) if (!this.#claims(at + to)) break;
    return to;
  }

  /** How far from there on they are not; the page that ended the last run was asked for already. */
  #othersUpTo(length: number, at: number, from: number): number {
    return from < length ? this.#pageEnd(length, at, from) : from;
  }

  #claims(byte: number): boolean {
    if (byte % PAGE_BYTES === 0) this.#isOurs = this.#absence.open.take(byte / PAGE_BYTES);
    return this.#isOurs;
  }

  #pageEnd(length: number, at: number, from: number): number {
    const next = (Math.floor((at + from) / PAGE_BYTES) + 1) * PAGE_BYTES - at;
    return Math.min(next, length);
  }

  #put(bytes: Uint8Array, at: number): void {
    this.#region.write(bytes, at);
    const { absent, counters, counter } = this.#absence;
    const first = Math.floor(at / PAGE_BYTES);
    const end = Math.floor((at + bytes.length) / PAGE_BYTES);
    let placed = 0;
    // After the bytes: whoever sees the bit cleared sees the page.
    for (let page = first; page < end; page += 1) if (absent.take(page)) placed += 1;
    this.#placed += placed;
    if (placed > 0 && Atomics.sub(counters, counter, placed) === placed) this.#whole();
  }
}
