/**
 * Guest RAM as a file to write to. For memory that nothing has touched yet, which is all of it in
 * round 0, `pwrite` is three times as fast as a store through a mapping (0.13 against 0.4 s a GiB):
 * no page fault, and no page zeroed that is about to be overwritten. The guest sees the same pages.
 */
import { openSync, writeSync } from 'node:fs';
import { PAGE_BYTES } from '../../base/units.ts';
import type { RegionSink } from '../../pages/placer.ts';
import { MigError } from '../../protocol/error.ts';

export class RamFile implements RegionSink {
  readonly pageCount: number;
  /** Closed by the end of the worker thread, as all files that it opened. */
  readonly #fd: number;

  constructor(path: string, bytes: number) {
    this.#fd = openSync(path, 'r+');
    this.pageCount = bytes / PAGE_BYTES;
  }

  /** Throws NATIVE_FAILED. */
  write(bytes: Uint8Array, at: number): void {
    const written = writeSync(this.#fd, bytes, 0, bytes.length, at);
    if (written !== bytes.length) {
      throw new MigError('NATIVE_FAILED', `${written} of ${bytes.length} bytes written to RAM`);
    }
  }
}
