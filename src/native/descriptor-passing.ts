/**
 * A descriptor from one process to another, over a Unix socket (SCM_RIGHTS: unix(7), sendmsg(2),
 * recvmsg(2)), with a few bytes that say what it is.
 */
import koffi from 'koffi';
import { assert } from '../base/assert.ts';
import { MigError } from '../protocol/error.ts';
import { closeNative } from './descriptors.ts';
import { checked, libc } from './libc.ts';

const socket = libc.func('int socket(int domain, int type, int protocol)');
const connect = libc.func('int connect(int fd, void *address, unsigned int length)');
const sendmsg = libc.func('int64_t sendmsg(int fd, void *message, int flags)');
const recvmsg = libc.func('int64_t recvmsg(int fd, _Inout_ void *message, int flags)');

// sys/socket.h (asm-generic/socket.h, linux/socket.h, linux/un.h)
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;
const PATH_BYTES_MAX = 108;

/** struct cmsghdr { length u64, level i32, type i32 } and one descriptor i32, aligned to 8. */
const CONTROL_BYTES = 24;
const CONTROL_LENGTH = 20;
/** What comes with a descriptor. */
export const NOTE_BYTES = 16;

/**
 * struct msghdr { name *, name length u32, iovec *, iovecs u64, control *, control length u64, flags
 * i32 }, each at a multiple of 8, for one struct iovec { base *, length u64 }.
 */
class Envelope {
  readonly message = new BigUint64Array(7);
  readonly #vector = new BigUint64Array(2);
  readonly note: Uint8Array<ArrayBuffer>;
  readonly control = Buffer.alloc(CONTROL_BYTES);

  constructor(note: Uint8Array<ArrayBuffer>) {
    assert(note.length === NOTE_BYTES, 'a note of another length');
    this.note = note;
    this.#vector.set([koffi.address(this.note), BigInt(NOTE_BYTES)]);
    const control = [koffi.address(this.control), BigInt(CONTROL_BYTES)] as const;
    this.message.set([0n, 0n, koffi.address(this.#vector), 1n, ...control, 0n]);
  }
}

/** Sends `fd`, which stays the sender's own, over a connected Unix socket. Throws NATIVE_FAILED. */
export function sendDescriptor(over: number, fd: number, note: Uint8Array<ArrayBuffer>): void {
  const envelope = new Envelope(note);
  envelope.control.writeBigUInt64LE(BigInt(CONTROL_LENGTH), 0);
  envelope.control.writeInt32LE(SOL_SOCKET, 8);
  envelope.control.writeInt32LE(SCM_RIGHTS, 12);
  envelope.control.writeInt32LE(fd, 16);
  checked('sendmsg', sendmsg(over, envelope.message, MSG_NOSIGNAL));
}

/**
 * Connects to the socket at `path`, on which a descriptor is sent to whoever connects. The caller owns
 * it. Throws NATIVE_FAILED.
 */
export function fetchDescriptor(path: string): { readonly fd: number; readonly note: Uint8Array } {
  const name = Buffer.from(path);
  if (name.length >= PATH_BYTES_MAX) throw new MigError('NATIVE_FAILED', `${path}: too long`);
  const over = checked('socket', socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  try {
    const address = Buffer.alloc(2 + PATH_BYTES_MAX);
    address.writeUInt16LE(AF_UNIX, 0);
    name.copy(address, 2);
    checked('connect', connect(over, address, address.length));
    const envelope = new Envelope(new Uint8Array(NOTE_BYTES));
    const got = checked('recvmsg', recvmsg(over, envelope.message, MSG_CMSG_CLOEXEC));
    const isOne =
      got === NOTE_BYTES &&
      envelope.control.readBigUInt64LE(0) === BigInt(CONTROL_LENGTH) &&
      envelope.control.readInt32LE(12) === SCM_RIGHTS;
    if (!isOne) throw new MigError('NATIVE_FAILED', `${path}: no descriptor came`);
    return { fd: envelope.control.readInt32LE(16), note: envelope.note };
  } finally {
    closeNative(over);
  }
}
