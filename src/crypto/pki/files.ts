/** Files of the PKI: written whole or not at all, keys readable by their owner only. */
import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';
import { MigError } from '../../protocol/error.ts';

/** Replaces `file` by `content` in one step. */
export function writeWhole(file: string, content: string, mode: number): void {
  const temporary = `${file}.${process.pid}.new`;
  const fd = openSync(temporary, 'wx', mode);
  try {
    writeSync(fd, content);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, file);
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
  const mode = statSync(file, { throwIfNoEntry: false })?.mode;
  if (mode === undefined) throw new MigError('PKI_MISSING', file);
  if ((mode & 0o077) !== 0) {
    throw new MigError('PKI_MISSING', `${file} is readable by others: chmod 600 it`);
  }
  return readText(file);
}
