/**
 * The file operations that secrets at rest need: bounded reads that follow no link, writes that are
 * on disk when they return, overwriting in place. Errors are the system's own; knows nothing of
 * what the files hold.
 *
 * Reads and writes block, because they lie in the guest's downtime, where each turn through the
 * thread pool is longer than the call; overwriting happens in the daemon, which must not block.
 */
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  lstatSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { lstat, open, type FileHandle } from 'node:fs/promises';
import type { Random } from '../base/ports.ts';

/** Only the owner may read or write. */
const PRIVATE_FILE_MODE = 0o600;
export const PRIVATE_DIRECTORY_MODE = 0o700;

const { O_RDONLY, O_RDWR, O_WRONLY, O_CREAT, O_EXCL, O_TRUNC, O_NOFOLLOW } = constants;
const CHUNK_BYTES = 64 * 1024;

/** The system's name of an error (`ENOENT` …), or `failed`. */
export const systemCode = (thrown: unknown): string =>
  thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'failed';

/** Up to `maxBytes` from the beginning of the file, in a buffer of its own. */
export function readStart(path: string, maxBytes: number): Buffer {
  return withFile(path, O_RDONLY | O_NOFOLLOW, (file) => {
    const bytes = Buffer.alloc(Math.min(fstatSync(file).size, maxBytes));
    let filled = 0;
    while (filled < bytes.length) {
      const count = readSync(file, bytes, filled, bytes.length - filled, filled);
      if (count === 0) break;
      filled += count;
    }
    return bytes.subarray(0, filled);
  });
}

/** Writes the file, 0600, and returns when its bytes are on disk. `'new'` refuses an existing one. */
export function writeSynced(path: string, bytes: Uint8Array, mode: 'new' | 'replace'): void {
  const how = O_WRONLY | O_CREAT | O_NOFOLLOW | (mode === 'new' ? O_EXCL : O_TRUNC);
  withFile(path, how, (file) => {
    let written = 0;
    while (written < bytes.length) written += writeSync(file, bytes, written);
    fsyncSync(file);
  });
}

/** Makes created and renamed names of a directory durable. */
export const syncDirectory = (path: string): void => withFile(path, O_RDONLY, fsyncSync);

/** Makes unlinked names of a directory durable, without blocking. */
export async function settleDirectory(path: string): Promise<void> {
  await using directory = await open(path, O_RDONLY);
  await directory.sync();
}

/** The size of a regular file; null if there is no such file. */
export function fileBytes(path: string): number | null {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isFile() === true ? found.size : null;
}

/**
 * Replaces the whole content by random bytes, in place and on disk. Returns how many; null if there
 * is no such regular file. (A file system that copies on write, or a flash disk, may keep the old
 * blocks all the same: that is why what lies there is encrypted and its key goes first.)
 */
export async function overwrite(path: string, random: Random): Promise<number | null> {
  try {
    if (!(await lstat(path)).isFile()) return null;
    await using file = await open(path, O_RDWR | O_NOFOLLOW);
    const written = await overwriteOpen(file, random);
    await file.sync();
    return written;
  } catch (thrown) {
    if (systemCode(thrown) === 'ENOENT') return null;
    throw thrown;
  }
}

async function overwriteOpen(file: FileHandle, random: Random): Promise<number> {
  const { size } = await file.stat();
  let written = 0;
  while (written < size) {
    const chunk = random.bytes(Math.min(CHUNK_BYTES, size - written));
    const { bytesWritten } = await file.write(chunk, 0, chunk.length, written);
    written += bytesWritten;
  }
  return written;
}

/** Lends a descriptor of the file and closes it. */
function withFile<T>(path: string, flags: number, use: (file: number) => T): T {
  const file = openSync(path, flags, PRIVATE_FILE_MODE);
  try {
    return use(file);
  } finally {
    closeSync(file);
  }
}
