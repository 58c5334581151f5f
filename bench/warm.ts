/**
 * Memory that is really there. Under a hypervisor that takes back what a guest has freed, the first
 * write to a page costs a fault of the host's: here between 0.09 and 2 s a GiB, whatever is measured.
 * What was written to a moment ago is given out again first.
 */
import { closeSync, existsSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { MiB } from '../src/base/units.ts';

const FILE = path.join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), `migd-warm-${process.pid}`);

/** So many bytes of free memory are warm from now on, for a while. */
export function warm(bytes: number): void {
  const piece = Buffer.alloc(MiB, 1);
  const fd = openSync(FILE, 'w', 0o600);
  try {
    for (let at = 0; at < bytes; at += piece.length) writeSync(fd, piece, 0, piece.length, at);
  } finally {
    closeSync(fd);
    rmSync(FILE);
  }
}
