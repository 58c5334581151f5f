/** A Node socket of which every byte is accounted for, until a thread takes it over. */
import type { Socket } from 'node:net';
import { classifyTlsError } from '../crypto/pki/tls-error.ts';
import { waitingDescriptor } from '../native/sockets.ts';
import { MigError } from '../protocol/error.ts';

/** Of libuv, behind a socket: what Node offers no other way to. */
interface Handle {
  readonly fd: number;
  /** From now on nothing is taken from the kernel; Node believes that it is still reading. */
  readStop(): unknown;
}

const handleOf = (socket: Socket): Handle => {
  const { _handle: handle } = socket as Socket & { readonly _handle: Handle | null };
  if (handle === null) throw new MigError('CHANNEL_JOIN', 'closed before it joined');
  return handle;
};

/** Resolves when the kernel has taken it. */
export const sendAll = (socket: Socket, bytes: Uint8Array): Promise<void> =>
  new Promise((resolve, reject) => {
    socket.write(bytes, (cause) => {
      if (cause) reject(new MigError('CHANNEL_JOIN', 'closed before it joined', { cause }));
      else resolve();
    });
  });

/**
 * Exactly `count` bytes, then pauses; `opened` turns what comes from the network into what is counted.
 * Rejects as {@link Connection.receive}.
 */
export function receiveExactly(
  socket: Socket,
  count: number,
  then: 'go on' | 'stop',
  opened: (bytes: Buffer) => Uint8Array = (bytes) => bytes,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const settle = () => {
      socket.off('data', data).off('end', ended).off('error', ended).off('close', ended);
      socket.pause();
    };
    const data = (bytes: Buffer) => {
      try {
        received = Buffer.concat([received, opened(bytes)]);
      } catch (thrown) {
        ended(thrown);
        return;
      }
      if (received.length < count) return;
      // At once: what comes next belongs to the thread.
      if (then === 'stop') handleOf(socket).readStop();
      settle();
      if (received.length === count) resolve(received);
      else reject(new MigError('CHANNEL_JOIN', 'bytes before they were due'));
    };
    const ended = (cause?: unknown) => {
      settle();
      // A peer that refuses our certificate says so only now: TLS 1.3 lets the client finish first.
      const code = cause instanceof Error ? classifyTlsError(cause) : 'PEER_CLOSED';
      const detail = 'closed before it joined';
      reject(new MigError(code === 'PEER_CLOSED' ? 'CHANNEL_JOIN' : code, detail, { cause }));
    };
    if (socket.destroyed) {
      ended();
      return;
    }
    socket.on('data', data).once('end', ended).once('error', ended).once('close', ended);
    socket.resume();
    // What is wanted may have come with what was read before.
    data(Buffer.alloc(0));
  });
}

/**
 * The same connection as a descriptor for a thread that waits; Node's socket is gone. Throws
 * CHANNEL_JOIN when it has read what nobody asked for.
 */
export function takeOver(socket: Socket): number {
  if (socket.readableLength > 0) throw new MigError('CHANNEL_JOIN', 'bytes before they were due');
  const fd = waitingDescriptor(handleOf(socket).fd);
  socket.destroy();
  return fd;
}
