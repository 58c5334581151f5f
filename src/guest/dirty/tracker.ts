/** Which pages of a guest were written: one interface, two ways to know. */
import type { DirtyKind } from '../driver.ts';

export interface DirtyTracker extends Disposable {
  readonly kind: DirtyKind;
  /** Everything written before is forgotten; everything written from now on is reported. */
  arm(): void;
  /**
   * Sets in `bitmap` the bit of every page written since `arm` or the last `collect`, and no write is
   * missed between the two: each page is re-armed in the step that reports it. Other bits stay.
   */
  collect(bitmap: Uint8Array): void;
  disarm(): void;
}

/** Sets `pages` bits from bit `first` on. */
export function setRange(bitmap: Uint8Array, first: number, pages: number): void {
  const end = first + pages;
  let page = first;
  for (; page < end && (page & 7) !== 0; page += 1) setBit(bitmap, page);
  const wholeBytes = Math.floor((end - page) / 8);
  if (wholeBytes > 0) {
    bitmap.fill(0xff, page >> 3, (page >> 3) + wholeBytes);
    page += wholeBytes * 8;
  }
  for (; page < end; page += 1) setBit(bitmap, page);
}

function setBit(bitmap: Uint8Array, page: number): void {
  bitmap[page >> 3] = (bitmap[page >> 3] ?? 0) | (1 << (page & 7));
}
