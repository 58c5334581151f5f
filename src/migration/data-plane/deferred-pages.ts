/** The hot pages of a guest, taken out of the bitmap in its exchange file and put back. */
import { PAGE_BYTES } from '../../base/units.ts';
import { exchangeLayout } from '../../guest/exchange.ts';
import { SharedMapping } from '../../native/mapping.ts';
import { Bitmap } from '../../pages/bitmap.ts';
import { HotPages } from '../../pages/hot-pages.ts';
import type { MemoryPlace } from './messages.ts';

export class DeferredPages {
  readonly #place: MemoryPlace;
  readonly #hot = new HotPages();

  constructor(place: MemoryPlace) {
    this.#place = place;
  }

  /**
   * After a collection into an empty bitmap of `dirtyPages`: puts back what the round left out. Returns
   * how many pages are owed now, and how many of them the round had left out.
   */
  collected(): { readonly dirtyPages: number; readonly deferredPages: number } {
    return this.#inBitmap((bitmap) => {
      const deferredPages = this.#hot.leftCount;
      this.#hot.remember(bitmap);
      this.#hot.putBack(bitmap);
      return { dirtyPages: this.#count(bitmap), deferredPages };
    });
  }

  /** After anything else that added to the bitmap. Returns how many pages are owed now. */
  putBack(): number {
    return this.#inBitmap((bitmap) => {
      this.#hot.forget();
      this.#hot.putBack(bitmap);
      return this.#count(bitmap);
    });
  }

  /** Before a round: leaves up to `countMax` hot pages out. Returns how many. */
  leaveOut(countMax: number): number {
    return this.#inBitmap((bitmap) => this.#hot.takeOut(bitmap, countMax));
  }

  #count(bitmap: Uint8Array): number {
    return new Bitmap(bitmap, this.#place.ramBytes / PAGE_BYTES).count();
  }

  #inBitmap<T>(work: (bitmap: Uint8Array) => T): T {
    const { ramBytes, exchangePath } = this.#place;
    const { bitmapOffset, bitmapBytes } = exchangeLayout(ramBytes);
    using exchange = SharedMapping.open(exchangePath);
    return work(new Uint8Array(exchange.view(), bitmapOffset, bitmapBytes));
  }
}
