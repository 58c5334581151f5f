/**
 * A guest's exchange file as the data plane sees it. The main thread maps it, once for all channels, and
 * unmaps it when all their threads are gone, however they ended; the workers get views. RAM itself is
 * read and written as a file (ram-file.ts).
 */
import { PAGE_BYTES } from '../../base/units.ts';
import { COUNTER, exchangeLayout, STATE_BYTES_MAX } from '../../guest/exchange.ts';
import { SharedMapping, viewOf } from '../../native/mapping.ts';
import { Bitmap } from '../../pages/bitmap.ts';
import type { Absence } from '../../pages/late-pages.ts';
import { PushOrder } from '../../pages/push-order.ts';
import { SharedBitmap } from '../../pages/shared-bitmap.ts';
import { MigError } from '../../protocol/error.ts';
import type { MappedExchange, MemoryPlace } from './messages.ts';

export interface Exchange {
  /** The pages of a round that does not send all of them; in a post-copy those that D does not have. */
  readonly dirty: Bitmap;
  /** Device state ‖ vTPM state, as long as its owner says. */
  readonly state: Uint8Array;
}

export class ExchangeMapping {
  readonly mapped: MappedExchange;
  readonly #mapping: SharedMapping;

  /** Throws NATIVE_FAILED when the file is not there or not of the expected size. */
  constructor({ ramBytes, exchangePath }: MemoryPlace) {
    this.#mapping = mapWhole(exchangePath, exchangeLayout(ramBytes).totalBytes);
    this.mapped = { address: this.#mapping.address, ramBytes };
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }
}

function mapWhole(path: string, bytes: number): SharedMapping {
  try {
    const mapping = SharedMapping.open(path);
    if (mapping.byteLength === bytes) return mapping;
    // A shorter file would end a worker, and the daemon with it, by a bus error.
    mapping[Symbol.dispose]();
    throw new MigError('NATIVE_FAILED', `${mapping.byteLength} bytes mapped, expected ${bytes}`);
  } catch (thrown) {
    throw MigError.from(thrown, 'NATIVE_FAILED');
  }
}

/** What the main thread mapped, seen from a worker. */
export function viewExchange({ address, ramBytes }: MappedExchange): Exchange {
  const { stateOffset, bitmapOffset, bitmapBytes, totalBytes } = exchangeLayout(ramBytes);
  const area = viewOf(address, totalBytes);
  return {
    state: new Uint8Array(area, stateOffset, STATE_BYTES_MAX),
    dirty: new Bitmap(new Uint8Array(area, bitmapOffset, bitmapBytes), ramBytes / PAGE_BYTES),
  };
}

interface SharedViews {
  readonly absent: SharedBitmap;
  readonly open: SharedBitmap;
  readonly counters: Int32Array;
}

function sharedViews({ address, ramBytes }: MappedExchange): SharedViews {
  const { bitmapOffset, openOffset, countersOffset, totalBytes } = exchangeLayout(ramBytes);
  const area = viewOf(address, totalBytes);
  const pages = ramBytes / PAGE_BYTES;
  const bitmapAt = (offset: number, end: number) =>
    new SharedBitmap(new Uint8Array(area, offset, end - offset), pages);
  return {
    absent: bitmapAt(bitmapOffset, openOffset),
    open: bitmapAt(openOffset, countersOffset),
    counters: new Int32Array(area, countersOffset, PAGE_BYTES / 4),
  };
}

/** At the source: what of the pages that the destination does not have is to be pushed. */
export function viewPushOrder(exchange: MappedExchange): PushOrder {
  const { open, counters } = sharedViews(exchange);
  return new PushOrder(open, counters, COUNTER.cursor);
}

/** At the destination: what is not there yet. */
export function viewAbsence(exchange: MappedExchange): Absence {
  return { ...sharedViews(exchange), counter: COUNTER.absent };
}

/**
 * Either side, before the first page of a post-copy session is on its way: every absent page is open.
 * Returns how many there are.
 */
export function openAbsent(place: MemoryPlace): number {
  using mapping = new ExchangeMapping(place);
  const { address, ramBytes } = mapping.mapped;
  const { bitmapOffset, bitmapBytes, openOffset, countersOffset, totalBytes } =
    exchangeLayout(ramBytes);
  const area = viewOf(address, totalBytes);
  const absent = new Uint8Array(area, bitmapOffset, bitmapBytes);
  const count = new Bitmap(absent, ramBytes / PAGE_BYTES).count();
  const counters = new Int32Array(area, countersOffset, PAGE_BYTES / 4);
  counters[COUNTER.absent] = count;
  counters[COUNTER.cursor] = 0;
  new Uint8Array(area, openOffset, bitmapBytes).set(absent);
  return count;
}

/** Pages of a guest that are not there yet. */
export function countAbsent(place: MemoryPlace): number {
  using mapping = new ExchangeMapping(place);
  return viewExchange(mapping.mapped).dirty.count();
}

/** At the source, of a guest of which no page was sent: all of them are absent at the destination. */
export function allAbsent(place: MemoryPlace): void {
  using mapping = new ExchangeMapping(place);
  const { dirty } = viewExchange(mapping.mapped);
  dirty.addRange({ first: 0, count: dirty.pageCount });
}
