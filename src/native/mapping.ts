/**
 * Shared mappings of files: the guest's memory, seen by its vCPUs, its agent and the daemon's data
 * workers. It knows nothing of what is in them.
 */
import koffi from 'koffi';
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { MigError } from '../protocol/error.ts';
import { checked, errnoName, libc } from './libc.ts';

// sys/mman.h (asm-generic/mman-common.h)
const PROT_READ_WRITE = 1 | 2;
const MAP_SHARED = 1;
const MADV_DONTDUMP = 16;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

const mmap = libc.func(
  'void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)',
);
const munmap = libc.func('int munmap(void *address, size_t length)');
const madvise = libc.func('int madvise(void *address, size_t length, int advice)');
const fallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');

export class SharedMapping {
  /** Where it is in this process; every thread may make its own view of it. */
  readonly address: bigint;
  readonly byteLength: number;
  #mapped = true;

  private constructor(address: bigint, byteLength: number) {
    this.address = address;
    this.byteLength = byteLength;
  }

  /** Makes a new file, mode 0600, with memory really reserved. Throws DEST_CAPACITY. */
  static create(file: string, byteLength: number): SharedMapping {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const fd = openSync(file, flags, 0o600);
    try {
      // fallocate and not ftruncate: a sparse file would fail later, with a bus error in the guest.
      if (Number(fallocate(fd, 0, 0, byteLength)) !== 0) {
        throw new MigError('DEST_CAPACITY', `${byteLength} bytes of memory: ${errnoName()}`);
      }
      return SharedMapping.#map(fd, byteLength);
    } finally {
      closeSync(fd);
    }
  }

  /** Maps a whole file that is there. */
  static open(file: string): SharedMapping {
    const fd = openSync(file, constants.O_RDWR | constants.O_NOFOLLOW);
    try {
      return SharedMapping.#map(fd, fstatSync(fd).size);
    } finally {
      closeSync(fd);
    }
  }

  static #map(fd: number, byteLength: number): SharedMapping {
    const address = BigInt(mmap(null, byteLength, PROT_READ_WRITE, MAP_SHARED, fd, 0));
    if (address === MAP_FAILED) throw new MigError('NATIVE_FAILED', `mmap: ${errnoName()}`);
    const mapping = new SharedMapping(address, byteLength);
    // Guest memory stays out of core files.
    checked('madvise', madvise(address, byteLength, MADV_DONTDUMP));
    return mapping;
  }

  /** The memory itself, nothing copied. Must not be used once the mapping is disposed of. */
  view(): ArrayBuffer {
    return viewOf(this.address, this.byteLength);
  }

  /** Unmaps it. Whoever disposes of it knows that no view is used any more, in any thread. */
  [Symbol.dispose](): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    checked('munmap', munmap(this.address, this.byteLength));
  }
}

/** A view of memory that another thread of this process mapped and keeps mapped. */
export const viewOf = (address: bigint, byteLength: number): ArrayBuffer =>
  koffi.view(address, byteLength);
