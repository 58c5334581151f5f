/** Descriptors of this process: where its output goes (dup2, unistd.h), who inherits them (fcntl.h). */
import { closeSync, openSync, readdirSync } from 'node:fs';
import type { Socket } from 'node:net';
import { checked, libc } from './libc.ts';

const dup2 = libc.func('int dup2(int from, int to)');
const STDOUT = 1;
const STDERR = 2;

/** From now on whatever this process prints is appended to `file`, made with mode 0600. */
export function redirectOutput(file: string): void {
  const fd = openSync(file, 'a', 0o600);
  try {
    checked('dup2', dup2(fd, STDOUT));
    checked('dup2', dup2(fd, STDERR));
  } finally {
    closeSync(fd);
  }
}

/** Of a socket that is open: Node has no other way to tell. */
export const descriptorOf = (socket: Socket): number =>
  (socket as Socket & { readonly _handle: { readonly fd: number } })._handle.fd;

const close = libc.func('int close(int fd)');

/** Closes what Node did not open: in a worker thread it keeps count of what it did. */
export function closeNative(fd: number): void {
  checked('close', close(fd));
}

const fcntl = libc.func('int fcntl(int fd, int command, ...)');
const F_SETFD = 2;
const FD_CLOEXEC = 1;

/**
 * No process started from now on inherits what is open here but its standard streams: libraries
 * open files (LMDB its records) without a word about it.
 */
export function keepDescriptors(): void {
  for (const fd of readdirSync('/proc/self/fd').map(Number)) {
    // The folder's own descriptor is closed by now; there is nothing to be done about a failure.
    if (fd > STDERR) fcntl(fd, F_SETFD, 'int', FD_CLOEXEC);
  }
}
