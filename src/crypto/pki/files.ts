/** Files of the PKI: written whole or not at all, keys readable by their owner only, one writer. */
import {
  closeSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { MigError } from '../../protocol/error.ts';

/**
 * Replaces `file` by `content` in one step, on disk when it returns. Only for who holds the
 * folder's lock: what a killed writer left under the temporary name is removed. Throws STORE_FAILED.
 */
export function writeWhole(file: string, content: string, mode: number): void {
  const temporary = `${file}.new`;
  rmSync(temporary, { force: true });
  try {
    withFile(temporary, 'wx', mode, (fd) => {
      // Whatever the umask takes away or leaves.
      fchmodSync(fd, mode);
      writeFileSync(fd, content);
      fsyncSync(fd);
    });
    renameSync(temporary, file);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw new MigError('STORE_FAILED', file, { cause });
  }
  withFile(path.dirname(file), 'r', mode, fsyncSync);
}

/** Makes the folder, for its owner only, unless it is there. Throws STORE_FAILED. */
export function makeFolder(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new MigError('STORE_FAILED', directory, { cause });
  }
}

/** Throws PKI_MISSING when it cannot be read. */
export function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new MigError('PKI_MISSING', file, { cause });
  }
}

/** A private key as PEM. Throws PKI_MISSING when it is missing or readable by others. */
export function readKey(file: string): string {
  try {
    return withFile(file, 'r', 0, (fd) => {
      if ((fstatSync(fd).mode & 0o077) !== 0) {
        throw new MigError('PKI_MISSING', `${file} is readable by others: chmod 600 it`);
      }
      return readFileSync(fd, 'utf8');
    });
  } catch (thrown) {
    if (thrown instanceof MigError) throw thrown;
    throw new MigError('PKI_MISSING', file, { cause: thrown });
  }
}

/**
 * Runs `change` as the folder's only writer. Two writers at once would each drop what the other put
 * in the index, and what is not there can never be revoked. Throws PKI_BUSY, also when a killed
 * writer left its lock (whether one still runs is for the operator to say), and STORE_FAILED.
 */
export function asOnlyWriter<T>(directory: string, change: () => T): T {
  const lock = path.join(directory, 'index.lock');
  try {
    closeSync(openSync(lock, 'wx', 0o600));
  } catch (cause) {
    const exists = cause instanceof Error && 'code' in cause && cause.code === 'EEXIST';
    throw new MigError(exists ? 'PKI_BUSY' : 'STORE_FAILED', lock, { cause });
  }
  try {
    return change();
  } finally {
    rmSync(lock, { force: true });
  }
}

/** Lends a descriptor of the file and closes it. */
function withFile<T>(file: string, flags: string, mode: number, use: (fd: number) => T): T {
  const fd = openSync(file, flags, mode);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}
