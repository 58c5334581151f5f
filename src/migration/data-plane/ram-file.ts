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
    for (let done = 0; done < bytes.length;) {
      // A signal may cut a write short.
      const written = this.#pwrite(bytes, done, at + done);
      if (written === 0) throw new MigError('NATIVE_FAILED', 'no byte written to RAM');
      done += written;
    }
  }

  #pwrite(bytes: Uint8Array, from: number, at: number): number {
    try {
      return writeSync(this.#fd, bytes, from, bytes.length - from, at);
    } catch (cause) {
      throw new MigError('NATIVE_FAILED', 'write to RAM', { cause });
    }
  }
}
