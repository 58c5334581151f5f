/**
 * One data channel: the source connects, the destination listens for exactly one peer. Either gives
 * a TLS socket that has joined the session, paused, with nothing read beyond the JOIN. Neither knows
 * what will be carried.
 */
import { createServer, connect as tlsConnect, type TLSSocket } from 'node:tls';
import type { Socket } from 'node:net';
import { JOIN_MS_MAX, JOIN_PENDING_MAX, JOIN_WAIT_MS_MAX } from '../base/limits.ts';
import type { Clock } from '../base/ports.ts';
import type { Join } from '../crypto/join-proof.ts';
import { classifyTlsError, refusalOf } from '../crypto/pki/tls-error.ts';
import { MigError } from '../protocol/error.ts';
import { awaitJoin, checkPeer, joinFrame, type ExpectedPeer } from './join.ts';
import { bindFirstFree, type PortRange } from './port-range.ts';
import { clientOptions, DATA_ALPN, serverOptions, type TlsIdentity } from './tls.ts';

interface Ends {
  readonly identity: TlsIdentity;
  readonly expected: ExpectedPeer;
  readonly join: Join;
  readonly clock: Clock;
}

/**
 * Connects and joins. Rejects with PEER_UNREACHABLE, PEER_SILENT, PEER_WRONG, CERT_…, CHANNEL_JOIN,
 * within JOIN_MS_MAX.
 */
export async function connectDataChannel(
  input: Ends & { readonly host: string; readonly port: number; readonly highWaterMark: number },
): Promise<TLSSocket> {
  const { host, port, identity, expected, join, clock, highWaterMark } = input;
  const tls = clientOptions(identity, DATA_ALPN);
  const options = { ...tls, host, port, noDelay: true, highWaterMark };
  const socket = tlsConnect(options);
  const late = Promise.withResolvers<never>();
  const timer = clock.after(JOIN_MS_MAX, () => late.reject(new MigError('PEER_SILENT', 'join')));
  try {
    await Promise.race([secured(socket), late.promise]);
    checkPeer(socket, expected);
    socket.write(joinFrame(socket, join, 'source'));
    await Promise.race([awaitJoin(socket, join, 'destination'), late.promise]);
    return socket;
  } catch (thrown) {
    socket.on('error', ignore).destroy();
    throw MigError.from(thrown, 'CHANNEL_JOIN');
  } finally {
    timer.cancel();
  }
}

export interface DataListener {
  readonly port: number;
  /** Resolves with the rightful peer's socket; rejects with CHANNEL_JOIN when none came in time. */
  readonly joined: Promise<TLSSocket>;
  /** Stops listening and drops who has not joined; the socket that joined stays. */
  close(): void;
}

/**
 * Listens on an address for the one peer. A wrong or silent connection is dropped, and the listener
 * goes on waiting for the rightful one. Rejects with LISTEN_FAILED.
 */
export async function listenDataChannel(
  input: Ends & {
    readonly address: string;
    readonly ports?: PortRange | undefined;
    /** Told of each connection that was refused. */
    readonly onRefused?: (error: MigError) => void;
  },
): Promise<DataListener> {
  const { address, ports, identity, clock, onRefused = ignore } = input;
  const joined = Promise.withResolvers<TLSSocket>();
  joined.promise.catch(ignore);
  const pending = new Pending();
  const server = createServer({
    ...serverOptions(identity, DATA_ALPN),
    handshakeTimeout: JOIN_MS_MAX,
    noDelay: true,
  });
  server.on('connection', (socket: Socket) => pending.add(socket));
  server.on('tlsClientError', (error, socket) => onRefused(handshakeError(error, socket)));
  const port = await bindFirstFree(server, address, ports);
  const close = () => {
    waiting.cancel();
    server.close();
    pending.dropAll();
    joined.reject(new MigError('CHANNEL_JOIN', 'closed'));
  };
  const waiting = clock.after(JOIN_WAIT_MS_MAX, () => {
    joined.reject(new MigError('CHANNEL_JOIN', 'nobody joined in time'));
    close();
  });
  server.on('secureConnection', (socket) => {
    socket.on('error', ignore);
    admit(socket, input, pending).then(
      () => {
        pending.delete(socket);
        joined.resolve(socket);
        return close();
      },
      (thrown: unknown) => {
        socket.destroy();
        onRefused(MigError.from(thrown, 'CHANNEL_JOIN'));
      },
    );
  });
  server.on('error', (cause) => joined.reject(new MigError('CHANNEL_LOST', '', { cause })));
  return { port, joined: joined.promise, close };
}

/** Checks one connection and answers its JOIN. */
async function admit(socket: TLSSocket, ends: Ends, pending: Pending): Promise<void> {
  const { expected, join, clock } = ends;
  checkPeer(socket, expected);
  pending.favour(socket);
  const timer = clock.after(JOIN_MS_MAX, () => socket.destroy());
  try {
    await awaitJoin(socket, join, 'source');
  } finally {
    timer.cancel();
  }
  socket.write(joinFrame(socket, join, 'destination'));
}

/**
 * The connections that have not joined: bounded. One too many drops the oldest of unknown origin, so
 * that neither a flood nor a few silent connections keep the rightful peer out.
 */
class Pending {
  readonly #sockets = new Map<string, { readonly socket: Socket; known: boolean }>();

  add(socket: Socket): void {
    const key = keyOf(socket);
    this.#sockets.set(key, { socket, known: false });
    socket.on('error', ignore);
    socket.once('close', () => this.#sockets.delete(key));
    if (this.#sockets.size <= JOIN_PENDING_MAX) return;
    const all = [...this.#sockets.values()];
    const oldest = all.find((entry) => !entry.known) ?? all[0];
    oldest?.socket.destroy();
  }

  /** The peer at the other end is the expected host: it goes last. */
  favour(socket: Socket): void {
    const entry = this.#sockets.get(keyOf(socket));
    if (entry !== undefined) entry.known = true;
  }

  delete(socket: Socket): void {
    this.#sockets.delete(keyOf(socket));
  }

  dropAll(): void {
    for (const { socket } of this.#sockets.values()) socket.destroy();
    this.#sockets.clear();
  }
}

/** A connection dropped for its certificate fails with a mere reset: what was wrong is at the socket. */
function handshakeError(cause: Error, socket: TLSSocket): MigError {
  // Null, whatever its type says, as long as no certificate was judged.
  const wasJudged = Boolean(socket.authorizationError);
  const code = (wasJudged ? refusalOf(socket) : undefined) ?? classifyTlsError(cause);
  return new MigError(code, cause.message, { cause });
}

/** The same for a TCP socket and for the TLS socket around it. */
const keyOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;

const secured = (socket: TLSSocket): Promise<void> =>
  new Promise((resolve, reject) => {
    const failed = (cause: Error) =>
      reject(new MigError(classifyTlsError(cause), cause.message, { cause }));
    socket.once('error', failed);
    socket.once('secureConnect', () => {
      socket.off('error', failed);
      resolve();
    });
  });

const ignore = (): void => undefined;
