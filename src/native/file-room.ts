/** Room in a file that is really there (posix_fallocate, fcntl.h): a write into it needs no more of the disk. */
import { getSystemErrorName } from 'node:util';
import { MigError } from '../protocol/error.ts';
import { libc } from './libc.ts';

const posixFallocate = libc.func('int posix_fallocate(int fd, int64_t offset, int64_t length)');

/** Of the first `bytes`; what is in them stays, the file grows where it was shorter. Throws STORE_FAILED. */
export function reserve(fd: number, bytes: number): void {
  const errno = Number(posixFallocate(fd, 0, bytes));
  if (errno !== 0) throw new MigError('STORE_FAILED', getSystemErrorName(-errno));
}
