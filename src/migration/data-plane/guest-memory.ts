/**
 * A guest's memory as the data plane sees it. The main thread maps it, once for all channels, and
 * unmaps it when all their threads are gone, however they ended; the workers get views.
 */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { Bitmap } from '../../pages/bitmap.ts';
import { PAGE_BYTES } from '../../base/units.ts';
import type { MappedMemory, MemoryPlace } from './messages.ts';

const libc = koffi.load('libc.so.6');
const mmap = libc.func(
  'void *mmap(void *addr, size_t len, int prot, int flags, int fd, int64_t off)',
);
const munmap = libc.func('int munmap(void *addr, size_t len)');
const STATE_BYTES = 1024 * 1024;

export interface GuestMemory {
  readonly ram: Uint8Array;
  readonly dirty: Bitmap;
  readonly state: Uint8Array;
}

export class GuestMapping {
  readonly mapped: MappedMemory;
  #open = true;

  constructor(place: MemoryPlace) {
    const exchangeBytes = STATE_BYTES + Math.ceil(place.ramBytes / PAGE_BYTES / 8);
    this.mapped = {
      ram: { address: map(place.ramPath, place.ramBytes), bytes: place.ramBytes },
      exchange: { address: map(place.exchangePath, exchangeBytes), bytes: exchangeBytes },
    };
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    for (const { address, bytes } of Object.values(this.mapped)) munmap(address, bytes);
  }
}

function map(path: string, bytes: number): bigint {
  const fd = openSync(path, 'r+');
  const pointer: unknown = mmap(null, bytes, 3, 1, fd, 0);
  closeSync(fd);
  return koffi.address(pointer);
}

/** The memory that the main thread mapped, seen from a worker. */
export function viewGuestMemory({ ram, exchange }: MappedMemory): GuestMemory {
  const area = new Uint8Array(koffi.view(exchange.address, exchange.bytes));
  return {
    ram: new Uint8Array(koffi.view(ram.address, ram.bytes)),
    state: area.subarray(0, STATE_BYTES),
    dirty: new Bitmap(area.subarray(STATE_BYTES), ram.bytes / PAGE_BYTES),
  };
}
