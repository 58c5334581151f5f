/** An advisory lock on a file (flock, sys/file.h): gone with the process, however it ends. */
import { closeSync, constants, openSync } from 'node:fs';
import { MigError } from '../protocol/error.ts';
import { libc } from './libc.ts';

const flock = libc.func('int flock(int fd, int operation)');
const LOCK_EX = 2;
const LOCK_NB = 4;

export class FileLock {
  readonly #fd: number;

  /** Throws DAEMON_RUNNING when another process holds it. */
  constructor(file: string) {
    this.#fd = openSync(file, constants.O_RDWR | constants.O_CREAT, 0o600);
    if (flock(this.#fd, LOCK_EX | LOCK_NB) !== 0) {
      closeSync(this.#fd);
      throw new MigError('DAEMON_RUNNING', file);
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
