/**
 * One data channel: the source connects, the destination listens for exactly one peer. Either gives
 * a connection that has joined the session, with nothing read beyond the JOIN. Neither knows what will
 * be carried, nor how its form secures it.
 */
import { connect as tcpConnect, createServer, type Socket } from 'node:net';
import { JOIN_MS_MAX, JOIN_PENDING_MAX, JOIN_WAIT_MS_MAX } from '../base/limits.ts';
import { classifyTlsError } from '../crypto/pki/tls-error.ts';
import { MigError } from '../protocol/error.ts';
import type { ChannelForm } from '../protocol/options.ts';
import type { Carrier, Ends, Engine, Secure } from './connection.ts';
import { joinAsDestination, joinAsSource } from './join.ts';
import { nativeTlsClient, nativeTlsServer } from './native-tls-form.ts';
import { bindFirstFree, type PortRange } from './port-range.ts';
import { sealedClient, sealedServer } from './sealed-form.ts';
import { tlsClient, tlsServer } from './tls-form.ts';

const SECURE: {
  readonly [F in ChannelForm]: {
    readonly [E in Engine]: { readonly client: Secure; readonly server: Secure };
  };
} = {
  tls: {
    portable: { client: tlsClient, server: tlsServer },
    native: { client: nativeTlsClient, server: nativeTlsServer },
  },
  sealed: {
    portable: { client: sealedClient, server: sealedServer },
    native: { client: sealedClient, server: sealedServer },
  },
};

/**
 * Connects and joins. Rejects with PEER_UNREACHABLE, PEER_SILENT, PEER_WRONG, CERT_…, CHANNEL_JOIN,
 * within JOIN_MS_MAX.
 */
export async function connectDataChannel(
  input: Ends & { readonly host: string; readonly port: number; readonly highWaterMark: number },
): Promise<Carrier> {
  const { host, port, form, engine, join, clock, highWaterMark } = input;
  const options = { host, port, noDelay: true, highWaterMark };
  const socket = tcpConnect(options);
  const late = Promise.withResolvers<never>();
  const timer = clock.after(JOIN_MS_MAX, () => late.reject(new MigError('PEER_SILENT', 'join')));
  const joined = async (): Promise<Carrier> => {
    await connected(socket);
    const connection = await SECURE[form][engine].client(socket, input, ignore);
    await joinAsSource(connection, join);
    return connection.carry();
  };
  try {
    return await Promise.race([joined(), late.promise]);
  } catch (thrown) {
    socket.destroy();
    throw MigError.from(thrown, 'CHANNEL_JOIN');
  } finally {
    timer.cancel();
  }
}

export interface DataListener {
  readonly port: number;
  /** Resolves with the rightful peer's connection; rejects with CHANNEL_JOIN when none came in time. */
  readonly joined: Promise<Carrier>;
  /** Stops listening and drops who has not joined; the connection that joined stays. */
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
  const { address, ports, clock, onRefused = ignore } = input;
  const joined = Promise.withResolvers<Carrier>();
  joined.promise.catch(ignore);
  const pending = new Pending();
  const server = createServer({ noDelay: true });
  server.on('connection', (socket) => {
    pending.add(socket);
    admit(socket, input, pending).then(
      (carrier) => {
        pending.delete(socket);
        joined.resolve(carrier);
        return close();
      },
      (thrown: unknown) => {
        // What it is told of this goes first.
        socket.destroySoon();
        onRefused(MigError.from(thrown, 'CHANNEL_JOIN'));
      },
    );
  });
  const port = await bindFirstFree(server, address, ports);
  server.on('error', (cause) => joined.reject(new MigError('CHANNEL_LOST', '', { cause })));
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
  return { port, joined: joined.promise, close };
}

/** Secures one connection, checks its JOIN and answers it; within JOIN_MS_MAX. */
async function admit(socket: Socket, ends: Ends, pending: Pending): Promise<Carrier> {
  const { form, engine, join, clock } = ends;
  const timer = clock.after(JOIN_MS_MAX, () => socket.destroy());
  try {
    const secure = SECURE[form][engine].server;
    const connection = await secure(socket, ends, () => pending.favour(socket));
    await joinAsDestination(connection, join);
    return connection.carry();
  } finally {
    timer.cancel();
  }
}

/**
 * The connections that have not joined: bounded. One too many drops the oldest of unknown origin, so
 * that neither a flood nor a few silent connections keep the rightful peer out.
 */
class Pending {
  /** Whether the peer is known, by connection, the oldest first. */
  readonly #sockets = new Map<Socket, boolean>();

  add(socket: Socket): void {
    this.#sockets.set(socket, false);
    socket.on('error', ignore);
    socket.once('close', () => this.#sockets.delete(socket));
    if (this.#sockets.size <= JOIN_PENDING_MAX) return;
    const all = [...this.#sockets.entries()];
    const [oldest] = all.find(([, isKnown]) => !isKnown) ?? all[0] ?? [];
    oldest?.destroy();
  }

  /** The peer at the other end is the expected host: it goes last. */
  favour(socket: Socket): void {
    if (this.#sockets.has(socket)) this.#sockets.set(socket, true);
  }

  delete(socket: Socket): void {
    this.#sockets.delete(socket);
  }

  dropAll(): void {
    for (const socket of this.#sockets.keys()) socket.destroy();
    this.#sockets.clear();
  }
}

const connected = (socket: Socket): Promise<void> =>
  new Promise((resolve, reject) => {
    const failed = (cause: Error) =>
      reject(new MigError(classifyTlsError(cause), cause.message, { cause }));
    socket.once('error', failed);
    socket.once('connect', () => {
      socket.off('error', failed);
      socket.on('error', ignore);
      resolve();
    });
  });

const ignore = (): void => undefined;
