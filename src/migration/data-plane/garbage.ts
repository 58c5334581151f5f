/**
 * Frees the buffers of records that have passed. They lie outside the heap, behind objects so small
 * that the heap sees no reason to collect them: on its own V8 lets 32 to 64 MiB of them gather in each
 * thread. A collection of the young generation takes 0.06 ms here, and the memory that it gives back
 * is still in the caches: sealing alone goes from 2.2 to 8 GB/s with it.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { MiB } from '../../base/units.ts';

const GARBAGE_BYTES_MAX = 4 * MiB;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as (options: { readonly type: 'minor' }) => void;

export class Garbage {
  #bytes = 0;

  /** So many bytes have passed, in buffers that nobody needs any more. */
  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < GARBAGE_BYTES_MAX) return;
    this.#bytes = 0;
    collect({ type: 'minor' });
  }
}
