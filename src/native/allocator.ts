/** The C library's allocator: what it keeps of memory that was freed (mallopt(3), malloc.h). */
import { MiB } from '../base/units.ts';
import { libc } from './libc.ts';

const mallopt = libc.func('int mallopt(int param, int value)');
const M_TRIM_THRESHOLD = -1;
const M_MMAP_THRESHOLD = -3;

/** Free memory at the end of a thread's heap that is kept, in bytes. */
const KEPT_BYTES = MiB;
/** Smaller blocks come from the heaps: a mapping of its own for each would be a page fault a page. */
const MAPPED_BYTES = 4 * MiB;

/**
 * Gives freed memory back to the system. By default the C library keeps up to 64 MiB for each thread:
 * the more the larger the blocks were that were ever freed. Where it is refused nothing changes.
 */
export function giveBackFreed(): void {
  mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES);
  mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
}
