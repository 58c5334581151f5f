/** A bitmap of pages in bytes that others own: 1 bit a page, least significant bit first. */
import { assert } from '../base/assert.ts';

/** A contiguous run of pages. */
export interface PageRange {
  readonly first: number;
  readonly count: number;
}

const BITS_SET = Uint8Array.from({ length: 256 }, (_, byte) => {
  let count = 0;
  for (let rest = byte; rest !== 0; rest &= rest - 1) count += 1;
  return count;
});

const trailingZeros = (byte: number): number => 31 - Math.clz32(byte & -byte);

export class Bitmap {
  readonly pageCount: number;
  /** As given: for what concerns many pages at once. */
  readonly bytes: Uint8Array;

  /** Over the first `pageCount` bits of `bytes`; whatever follows is neither read nor written. */
  constructor(bytes: Uint8Array, pageCount: number) {
    assert(bytes.length * 8 >= pageCount, 'a bitmap shorter than its pages');
    this.bytes = bytes;
    this.pageCount = pageCount;
  }

  static bytesFor(pageCount: number): number {
    return Math.ceil(pageCount / 8);
  }

  has(page: number): boolean {
    return (((this.bytes[page >>> 3] ?? 0) >>> (page & 7)) & 1) === 1;
  }

  add(page: number): void {
    assert(page >= 0 && page < this.pageCount, 'a page outside the bitmap');
    this.bytes[page >>> 3] = (this.bytes[page >>> 3] ?? 0) | (1 << (page & 7));
  }

  addRange(range: PageRange): void {
    this.#put(range, 0xff);
  }

  removeRange(range: PageRange): void {
    this.#put(range, 0);
  }

  /** How many pages are in it. */
  count(): number {
    const whole = this.pageCount >>> 3;
    let count = 0;
    for (let at = 0; at < whole; at += 1) count += BITS_SET[this.bytes[at] ?? 0] ?? 0;
    const rest = (this.bytes[whole] ?? 0) & ((1 << (this.pageCount & 7)) - 1);
    return count + (BITS_SET[rest] ?? 0);
  }

  /** The first page from `from` on and below `end` that is in it; `end` if none is. */
  nextSet(from: number, end: number): number {
    return this.#next(from, end, 0);
  }

  /** The first page from `from` on and below `end` that is not in it; `end` if all are. */
  nextClear(from: number, end: number): number {
    return this.#next(from, end, 0xff);
  }

  /** The runs of pages in it within `[from, end)`, in order. */
  *runs(from = 0, end = this.pageCount): Generator<PageRange, void, void> {
    for (let first = this.nextSet(from, end); first < end;) {
      const after = this.nextClear(first, end);
      yield { first, count: after - first };
      first = this.nextSet(after, end);
    }
  }

  /** Makes every bit of the range one of `bits`; the neighbours in its first and last byte stay. */
  #put({ first, count }: PageRange, bits: 0 | 0xff): void {
    const end = first + count;
    assert(first >= 0 && end <= this.pageCount, 'a range outside the bitmap');
    for (let page = first; page < end;) {
      const at = page >>> 3;
      const next = Math.min((at + 1) * 8, end);
      if (next - page === 8) {
        this.bytes.fill(bits, at, end >>> 3);
        page = (end >>> 3) * 8;
        continue;
      }
      const mask = ((1 << (next - page)) - 1) << (page & 7);
      this.bytes[at] = ((this.bytes[at] ?? 0) & ~mask) | (bits & mask);
      page = next;
    }
  }

  /** The first bit from `from` on that is set after an exclusive or with `flip`. */
  #next(from: number, end: number, flip: number): number {
    assert(from >= 0 && end <= this.pageCount, 'a range outside the bitmap');
    if (from >= end) return end;
    let at = from >>> 3;
    let byte = ((this.bytes[at] ?? 0) ^ flip) & (0xff << (from & 7)) & 0xff;
    const last = (end - 1) >>> 3;
    while (byte === 0 && at < last) {
      at += 1;
      byte = (this.bytes[at] ?? 0) ^ flip;
    }
    return byte === 0 ? end : Math.min(at * 8 + trailingZeros(byte), end);
  }
}
