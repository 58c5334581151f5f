/** The hot pages of a guest, taken out of the bitmap in its exchange file and put back. */
import type { Bitmap } from '../../pages/bitmap.ts';
import { HotPages } from '../../pages/hot-pages.ts';
import { ExchangeMapping, viewExchange } from './exchange-mapping.ts';
import type { MemoryPlace } from './messages.ts';

export class DeferredPages {
  readonly #place: MemoryPlace;
  readonly #hot = new HotPages();

  constructor(place: MemoryPlace) {
    this.#place = place;
  }

  /**
   * After a collection into an empty bitmap: puts back what the round left out. Returns how many pages
   * are owed now, and how many of them the round had left out.
   */
  collected(): { readonly dirtyPages: number; readonly deferredPages: number } {
    return this.#inBitmap((dirty) => {
      const deferredPages = this.#hot.leftCount;
      this.#hot.remember(dirty.bytes);
      this.#hot.putBack(dirty.bytes);
      return { dirtyPages: dirty.count(), deferredPages };
    });
  }

  /** After anything else that added to the bitmap. Returns how many pages are owed now. */
  putBack(): number {
    return this.#inBitmap((dirty) => {
      this.#hot.forget();
      this.#hot.putBack(dirty.bytes);
      return dirty.count();
    });
  }

  /** Before a round: leaves up to `countMax` hot pages out. Returns how many. */
  leaveOut(countMax: number): number {
    return this.#inBitmap((dirty) => this.#hot.takeOut(dirty.bytes, countMax));
  }

  #inBitmap<T>(work: (dirty: Bitmap) => T): T {
    using mapping = new ExchangeMapping(this.#place);
    return work(viewExchange(mapping.mapped).dirty);
  }
}
