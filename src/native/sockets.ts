/**
 * Connected sockets that a thread waits on (sys/socket.h, fcntl.h). Every wait is cut into slices, so
 * that the thread can look up between them; whoever is to be woken at once is woken by `shutdown`
 * from another thread.
 */
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import koffi from 'koffi';
import { MigError } from '../protocol/error.ts';
import { checked, errnoName, libc } from './libc.ts';

const fcntl = libc.func('int fcntl(int fd, int command, ...)');
const setsockopt = libc.func(
  'int setsockopt(int fd, int level, int option, void *value, unsigned int length)',
);
const send = libc.func('int64_t send(int fd, void *bytes, size_t length, int flags)');
const recv = libc.func('int64_t recv(int fd, void *bytes, size_t length, int flags)');
const shutdown = libc.func('int shutdown(int fd, int how)');

// fcntl.h (asm-generic/fcntl.h)
const F_DUPFD_CLOEXEC = 1030;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
// sys/socket.h (asm-generic/socket.h, linux/socket.h)
const SOL_SOCKET = 1;
const SO_LINGER = 13;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const MSG_WAITALL = 0x100;
const MSG_NOSIGNAL = 0x4000;
const SHUT_RDWR = 2;

/** How long one call waits at most, in ms: what a thread may be late to see a command of another. */
const SLICE_MS = 25;

/** These say only that a slice is over. */
const { EAGAIN, EINTR } = constants.errno;

/** A connection that a thread reads and writes by waiting. Disposing of it wipes its keys, if it has any. */
export interface BlockingLink extends Disposable {
  /** Whoever ends the thread closes it: only he knows that nobody waits on it any more. */
  readonly fd: number;
  /** Bytes read into `into`, at most its length; 0 when the slice was over. Throws CHANNEL_LOST. */
  read(into: Uint8Array): number;
  /** Bytes written of `from`; 0 when the slice was over. Throws CHANNEL_LOST. */
  write(from: Uint8Array): number;
  /** Whether bytes that have left the socket wait to be read. */
  readonly holdsBytes: boolean;
}

/** A descriptor of its own for the same connection, whose calls wait, a slice each. */
export function waitingDescriptor(fd: number): number {
  const own = checked('fcntl', fcntl(fd, F_DUPFD_CLOEXEC, 'int', 0));
  try {
    const flags = checked('fcntl', fcntl(own, F_GETFL));
    checked('fcntl', fcntl(own, F_SETFL, 'int', flags & ~O_NONBLOCK));
    // struct timeval { seconds i64, microseconds i64 }
    const slice = new BigInt64Array([0n, BigInt(SLICE_MS * 1000)]);
    for (const option of [SO_RCVTIMEO, SO_SNDTIMEO]) set(own, option, slice);
    // struct linger { on i32, seconds i32 }: closing it resets the connection. A peer whose window is
    // closed would else never hear that nobody reads any more.
    set(own, SO_LINGER, new Int32Array([1, 0]));
    return own;
  } catch (thrown) {
    closeSync(own);
    throw thrown;
  }
}

function set(fd: number, option: number, value: BigInt64Array | Int32Array): void {
  checked('setsockopt', setsockopt(fd, SOL_SOCKET, option, value, value.byteLength));
}

/** Ends the connection; whoever waits on it, in any thread, is woken. */
export function interrupt(fd: number): void {
  // One that has ended by itself refuses: then nobody waits.
  shutdown(fd, SHUT_RDWR);
}

/** TCP as it is. */
export class TcpLink implements BlockingLink {
  readonly fd: number;
  readonly holdsBytes = false;

  /** `fd`: of {@link waitingDescriptor}. */
  constructor(fd: number) {
    this.fd = fd;
  }

  read(into: Uint8Array): number {
    const got = Number(recv(this.fd, into, into.length, MSG_WAITALL));
    if (got > 0) return got;
    if (got === 0) throw new MigError('CHANNEL_LOST', 'closed by the peer');
    return sliceIsOver();
  }

  write(from: Uint8Array): number {
    const sent = Number(send(this.fd, from, from.length, MSG_NOSIGNAL));
    return sent >= 0 ? sent : sliceIsOver();
  }

  [Symbol.dispose](): void {
    // It has no keys.
  }
}

/** 0 after a call that only waited in vain. Throws CHANNEL_LOST. */
function sliceIsOver(): 0 {
  const errno = koffi.errno();
  if (errno === EAGAIN || errno === EINTR) return 0;
  throw new MigError('CHANNEL_LOST', errnoName());
}
