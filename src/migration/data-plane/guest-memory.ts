/**
 * A guest's memory as the data plane sees it. The main thread maps it, once for all channels, and
 * unmaps it when all their threads are gone, however they ended; the workers get views.
 */
import { PAGE_BYTES } from '../../base/units.ts';
import { exchangeLayout, STATE_BYTES_MAX } from '../../guest/exchange.ts';
import { SharedMapping, viewOf } from '../../native/mapping.ts';
import { Bitmap } from '../../pages/bitmap.ts';
import { MigError } from '../../protocol/error.ts';
import type { MappedMemory, MemoryPlace } from './messages.ts';

export interface GuestMemory {
  readonly ram: Uint8Array;
  /** The pages of a round that does not send all of them. */
  readonly dirty: Bitmap;
  /** Device state ‖ vTPM state, as long as its owner says. */
  readonly state: Uint8Array;
}

export class GuestMapping {
  readonly mapped: MappedMemory;
  readonly #mappings: readonly SharedMapping[];

  /** Throws NATIVE_FAILED when the files are not there or not of the expected size. */
  constructor({ ramPath, ramBytes, exchangePath }: MemoryPlace) {
    const ram = open(ramPath, ramBytes);
    const exchange = open(exchangePath, exchangeLayout(ramBytes).totalBytes, [ram]);
    this.#mappings = [ram, exchange];
    this.mapped = {
      ram: { address: ram.address, bytes: ram.byteLength },
      exchange: { address: exchange.address, bytes: exchange.byteLength },
    };
  }

  [Symbol.dispose](): void {
    for (const mapping of this.#mappings) mapping[Symbol.dispose]();
  }
}

/** Disposes of `others` too when it throws. */
function open(path: string, bytes: number, others: readonly SharedMapping[] = []): SharedMapping {
  const opened: SharedMapping[] = [...others];
  try {
    const mapping = SharedMapping.open(path);
    opened.push(mapping);
    // A shorter file would end a worker, and the daemon with it, by a bus error.
    if (mapping.byteLength !== bytes) {
      throw new MigError('NATIVE_FAILED', `${mapping.byteLength} bytes mapped, expected ${bytes}`);
    }
    return mapping;
  } catch (thrown) {
    for (const each of opened) each[Symbol.dispose]();
    throw MigError.from(thrown, 'NATIVE_FAILED');
  }
}

/** The memory that the main thread mapped, seen from a worker. */
export function viewGuestMemory({ ram, exchange }: MappedMemory): GuestMemory {
  const { stateOffset, bitmapOffset, bitmapBytes } = exchangeLayout(ram.bytes);
  const area = viewOf(exchange.address, exchange.bytes);
  return {
    ram: new Uint8Array(viewOf(ram.address, ram.bytes)),
    state: new Uint8Array(area, stateOffset, STATE_BYTES_MAX),
    dirty: new Bitmap(new Uint8Array(area, bitmapOffset, bitmapBytes), ram.bytes / PAGE_BYTES),
  };
}
