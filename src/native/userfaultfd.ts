/**
 * userfaultfd with asynchronous write protection (linux/userfaultfd.h, Linux ≥ 6.7): the first write
 * to a protected page clears its protection in the kernel, at the price of one fault, and marks it
 * written; nobody has to answer. It sees the writes of this process, by all its threads and by the
 * kernel on its behalf.
 */
import { closeSync } from 'node:fs';
import { checked, libc } from './libc.ts';

const syscall = libc.func('long syscall(long number, long flags)');
const ioctl = libc.func('int ioctl(int fd, unsigned long request, _Inout_ void *argument)');

/** asm/unistd_64.h, asm-generic/unistd.h */
const SYS_USERFAULTFD = process.arch === 'arm64' ? 282 : 323;
const O_CLOEXEC = 0o2000000;
/** Needs no privilege: faults that the kernel would have to wait for are refused, and none occur. */
const UFFD_USER_MODE_ONLY = 1;

const UFFD_API = 0xaan;
const UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1n << 12n;
const UFFD_FEATURE_WP_UNPOPULATED = 1n << 13n;
const UFFD_FEATURE_WP_ASYNC = 1n << 15n;
const UFFDIO_REGISTER_MODE_WP = 2n;

/** _IOWR(0xAA, 0x3F, struct uffdio_api) — { api u64, features u64, ioctls u64 } */
const UFFDIO_API = 0xc018_aa3f;
/** _IOWR(0xAA, 0x00, struct uffdio_register) — { start u64, len u64, mode u64, ioctls u64 } */
const UFFDIO_REGISTER = 0xc020_aa00;

/** Write protection of one range of memory. Throws NATIVE_FAILED where the kernel has none. */
export class WriteProtection {
  readonly #fd: number;

  /** From the construction on every page of the range counts as written until first scanned. */
  constructor(address: bigint, byteLength: number) {
    this.#fd = checked('userfaultfd', syscall(SYS_USERFAULTFD, O_CLOEXEC | UFFD_USER_MODE_ONLY));
    try {
      const api = new BigUint64Array([
        UFFD_API,
        UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
        0n,
      ]);
      checked('UFFDIO_API', ioctl(this.#fd, UFFDIO_API, api));
      const range = new BigUint64Array([address, BigInt(byteLength), UFFDIO_REGISTER_MODE_WP, 0n]);
      checked('UFFDIO_REGISTER', ioctl(this.#fd, UFFDIO_REGISTER, range));
    } catch (thrown) {
      closeSync(this.#fd);
      throw thrown;
    }
  }

  /** Ends the protection: writes cost nothing again. */
  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
