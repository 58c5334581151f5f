/** Small file systems of a test's own, to be filled to the last byte; only root can mount them. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';

const mayMount = process.getuid?.() === 0;

/** Why a test that mounts is left out; a failure where all must be there. */
export const skipUnlessMounting =
  !mayMount && process.env['MIGD_REQUIRE_ALL'] !== '1' ? 'needs root to mount' : false;

/** A file system of `bytes` at `directory`, until disposed of. */
export function mounted(directory: string, bytes: number): Disposable {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes},mode=0700`, 'none', directory]);
  return { [Symbol.dispose]: () => execFileSync('umount', ['--lazy', directory]) };
}

/** Makes it read-only, until disposed of. */
export function readOnly(directory: string): Disposable {
  execFileSync('mount', ['-o', 'remount,ro', directory]);
  return { [Symbol.dispose]: () => execFileSync('mount', ['-o', 'remount,rw', directory]) };
}

/** Takes all that is left of the file system of `directory`; disposing gives it back. */
export function filled(directory: string): Disposable {
  const file = path.join(directory, 'ballast');
  for (const bytes of [64 * 1024, 4096, 1]) {
    try {
      for (;;) appendFileSync(file, Buffer.alloc(bytes));
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'ENOSPC') throw thrown;
    }
  }
  return { [Symbol.dispose]: () => rmSync(file) };
}
