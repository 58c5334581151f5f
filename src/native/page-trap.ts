/**
 * Minor faults by userfaultfd (linux/userfaultfd.h, Linux ≥ 5.14), on shared memory that is allocated: a
 * page that this process has not mapped yet traps whoever touches it, until it is said that its content
 * is there. So memory can be run in before it has come. The process whose memory it is opens the trap;
 * another one, that writes the pages as a file, answers it.
 */
import { readSync } from 'node:fs';
import { constants } from 'node:os';
import koffi from 'koffi';
import { assert } from '../base/assert.ts';
import { PAGE_BYTES } from '../base/units.ts';
import { closeNative } from './descriptors.ts';
import { checked, libc } from './libc.ts';
import { ioctl, openUserfaultfd, type Range } from './userfaultfd.ts';

const UFFD_FEATURE_MINOR_SHMEM = 1n << 10n;
const UFFDIO_REGISTER_MODE_MINOR = 4n;
/** _IOR(0xAA, 0x02, struct uffdio_range) — { start u64, len u64 } */
const UFFDIO_WAKE = 0x8010_aa02;
/** _IOWR(0xAA, 0x07, struct uffdio_continue) — { start u64, len u64, mode u64, mapped s64 } */
const UFFDIO_CONTINUE = 0xc020_aa07;
const UFFD_EVENT_PAGEFAULT = 0x12;
/** struct uffd_msg: the event at 0, a fault's address at 16. */
const MESSAGE_BYTES = 32;
const ADDRESS_AT = 16;
/** Faults taken in one go: a thread has no more than one, and a guest few threads. */
const MESSAGES = 64;

/** The owner's end: from now on an unmapped page of the range traps. Throws NATIVE_FAILED. */
export class PageTrap {
  readonly fd: number;
  readonly range: Range;

  constructor(range: Range) {
    this.range = range;
    this.fd = openUserfaultfd(range, UFFD_FEATURE_MINOR_SHMEM, UFFDIO_REGISTER_MODE_MINOR);
  }

  /** Whether this kernel can: tried, not guessed from a version. */
  static isSupported(range: Range): boolean {
    try {
      using _trap = new PageTrap(range);
      return true;
    } catch {
      return false;
    }
  }

  /** Opens the trap when nobody else has its descriptor any more; whoever is in it goes on. */
  [Symbol.dispose](): void {
    closeNative(this.fd);
  }
}

const poll = libc.func('int poll(_Inout_ void *descriptors, unsigned long count, int timeoutMs)');
const POLLIN = 1;
const { EAGAIN, EINTR, EEXIST } = constants.errno;

/** The answering end, in pages of the range. */
export class PageFaults {
  readonly #fd: number;
  readonly #range: Range;
  readonly #messages = Buffer.alloc(MESSAGES * MESSAGE_BYTES);

  /** `fd`: the trap's, its owner here from now on. */
  constructor(fd: number, range: Range) {
    this.#fd = fd;
    this.#range = range;
    // Whom an earlier answerer had heard of and did not answer is heard of again.
    this.#wake();
  }

  /** The pages on which threads wait, that were not told yet. Throws NATIVE_FAILED. */
  take(): number[] {
    const bytes = this.#read();
    const pages: number[] = [];
    for (let at = 0; at < bytes; at += MESSAGE_BYTES) {
      assert(this.#messages[at] === UFFD_EVENT_PAGEFAULT, 'an event that was not asked for');
      const address = this.#messages.readBigUInt64LE(at + ADDRESS_AT);
      pages.push(Math.floor(Number(address - this.#range.address) / PAGE_BYTES));
    }
    return pages;
  }

  /** Waits until there are faults, `other` can be read, or the time is over. Throws NATIVE_FAILED. */
  wait(other: number, timeoutMs: number): { readonly faults: boolean; readonly other: boolean } {
    // struct pollfd { fd i32, events i16, returned events i16 }
    const waited = new Int32Array([this.#fd, POLLIN, other, POLLIN]);
    const count = Number(poll(waited, 2, timeoutMs));
    if (count < 0 && koffi.errno() !== EINTR) checked('poll', count);
    const isReady = (at: number) => count > 0 && (waited[at] ?? 0) >>> 16 !== 0;
    return { faults: isReady(1), other: isReady(3) };
  }

  /** The content of these pages is there: they are mapped, and whoever waits for them goes on. */
  resolve(first: number, count: number): void {
    for (let page = first; page < first + count;) {
      page += this.#continue(page, first + count - page);
    }
  }

  [Symbol.dispose](): void {
    closeNative(this.#fd);
  }

  /** Returns of how many pages it has taken care. */
  #continue(first: number, count: number): number {
    const start = this.#range.address + BigInt(first) * BigInt(PAGE_BYTES);
    const argument = new BigUint64Array([start, BigInt(count * PAGE_BYTES), 0n, 0n]);
    if (Number(continuing(this.#fd, UFFDIO_CONTINUE, argument)) === 0) return count;
    const errno = koffi.errno();
    const mapped = Number(BigInt.asIntN(64, argument[3] ?? 0n));
    if (mapped > 0) return mapped / PAGE_BYTES;
    // A page that is mapped already stops it there: its own waiters are woken apart.
    if (errno === EEXIST) this.#wake({ first, count: 1 });
    else if (errno !== EAGAIN) checked('UFFDIO_CONTINUE', -1);
    return errno === EEXIST ? 1 : 0;
  }

  #wake(pages?: { readonly first: number; readonly count: number }): void {
    const { address, byteLength } = this.#range;
    const start = address + BigInt((pages?.first ?? 0) * PAGE_BYTES);
    const length = pages === undefined ? byteLength : pages.count * PAGE_BYTES;
    ioctl('UFFDIO_WAKE', this.#fd, UFFDIO_WAKE, new BigUint64Array([start, BigInt(length)]));
  }

  #read(): number {
    try {
      return readSync(this.#fd, this.#messages);
    } catch (thrown) {
      // None is there.
      if ((thrown as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
      throw thrown;
    }
  }
}

const continuing = libc.func('int ioctl(int fd, unsigned long request, _Inout_ void *argument)');
