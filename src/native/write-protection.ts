/**
 * Asynchronous write protection (linux/userfaultfd.h, Linux ≥ 6.7): the first write to a protected page
 * clears its protection in the kernel, at the price of one fault, and marks it written; nobody has to
 * answer. It sees the writes of this process, by all its threads and by the kernel on its behalf.
 */
import { closeNative } from './descriptors.ts';
import { openUserfaultfd, type Range } from './userfaultfd.ts';

const UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1n << 12n;
const UFFD_FEATURE_WP_UNPOPULATED = 1n << 13n;
const UFFD_FEATURE_WP_ASYNC = 1n << 15n;
const UFFDIO_REGISTER_MODE_WP = 2n;

/** Write protection of one range of memory. Throws NATIVE_FAILED where the kernel has none. */
export class WriteProtection {
  readonly #fd: number;

  /** From the construction on every page of the range counts as written until first scanned. */
  constructor(range: Range) {
    this.#fd = openUserfaultfd(
      range,
      UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
      UFFDIO_REGISTER_MODE_WP,
    );
  }

  /** Ends the protection: writes cost nothing again. */
  [Symbol.dispose](): void {
    closeNative(this.#fd);
  }
}
