/** Reads and writes at a place of a file (pread, pwrite; unistd.h), whole or not at all. */
import { MigError } from '../protocol/error.ts';
import { checked, libc } from './libc.ts';

const pread = libc.func('int64_t pread(int fd, void *bytes, size_t length, int64_t offset)');
const pwrite = libc.func('int64_t pwrite(int fd, void *bytes, size_t length, int64_t offset)');

type Call = (fd: number, bytes: Uint8Array, length: number, offset: number) => number | bigint;

/** Fills `into` from the byte `at`. Throws NATIVE_FAILED, also when the file is shorter. */
export const readAt = (fd: number, into: Uint8Array, at: number): void =>
  whole('pread', pread as Call, fd, into, at);

/** Throws NATIVE_FAILED. */
export const writeAt = (fd: number, bytes: Uint8Array, at: number): void =>
  whole('pwrite', pwrite as Call, fd, bytes, at);

/** A signal may cut a call short. */
function whole(name: string, call: Call, fd: number, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length;) {
    const rest = bytes.subarray(done);
    const moved = checked(name, call(fd, rest, rest.length, at + done));
    if (moved === 0) throw new MigError('NATIVE_FAILED', `${name}: no byte at ${at + done}`);
    done += moved;
  }
}
