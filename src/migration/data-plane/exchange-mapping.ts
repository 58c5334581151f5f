/**
 * A guest's exchange file as the data plane sees it. The main thread maps it, once for all channels, and
 * unmaps it when all their threads are gone, however they ended; the workers get views. RAM itself is
 * read and written as a file (ram-file.ts).
 */
import { PAGE_BYTES } from '../../base/units.ts';
import { exchangeLayout, STATE_BYTES_MAX } from '../../guest/exchange.ts';
import { SharedMapping, viewOf } from '../../native/mapping.ts';
import { Bitmap } from '../../pages/bitmap.ts';
import { MigError } from '../../protocol/error.ts';
import type { MappedExchange, MemoryPlace } from './messages.ts';

export interface Exchange {
  /** The pages of a round that does not send all of them. */
  readonly dirty: Bitmap;
  /** Device state ‖ vTPM state, as long as its owner says. */
  readonly state: Uint8Array;
}

export class ExchangeMapping {
  readonly mapped: MappedExchange;
  readonly #mapping: SharedMapping;

  /** Throws NATIVE_FAILED when the file is not there or not of the expected size. */
  constructor({ ramBytes, exchangePath }: MemoryPlace) {
    this.#mapping = open(exchangePath, exchangeLayout(ramBytes).totalBytes);
    this.mapped = { address: this.#mapping.address, ramBytes };
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }
}

function open(path: string, bytes: number): SharedMapping {
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
