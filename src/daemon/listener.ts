/**
 * The daemon's one port: mutual TLS 1.3. A host's certificate leads to a migration, an operator's to
 * the control API, everything else nowhere. Who speaks is settled by the certificate before a request is answered.
 */
import type { IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import { WebSocketServer, type WebSocket } from 'ws';
import {
  API_FRAME_BYTES_MAX,
  CONNECTIONS_MAX,
  CONNECT_MS_MAX,
  MESSAGE_BYTES_MAX,
} from '../base/limits.ts';
import type { Identity } from '../crypto/pki/identity.ts';
import { refusalOf } from '../crypto/pki/tls-error.ts';
import { MigError } from '../protocol/error.ts';
import {
  ControlChannel,
  HANDOVER_PATH,
  hostPeer,
  MIGRATE_PATH,
  SERVE_PATH,
  peerIdentity,
  REFUSAL_HEADER,
} from '../transport/control.ts';
import { CONTROL_ALPN, serverOptions } from '../transport/tls.ts';

export const API_PATH = '/api';

export interface Doors {
  /** Another host wants to migrate to us. */
  readonly host: (channel: ControlChannel) => void;
  /** Another host comes with pages that are missing of a VM here. */
  readonly serving: (channel: ControlChannel) => void;
  /** Another host wants to settle a handover. */
  readonly handover: (channel: ControlChannel) => void;
  /** Why hosts are not let in to migrate now, if so. */
  readonly refusal: () => MigError | undefined;
  /** An operator with a certificate. */
  readonly operator: (socket: WebSocket, name: string) => void;
}

export interface Listener {
  readonly address: string;
  /** New certificates and revocation list for connections from now on. */
  renew(identity: Identity): void;
  close(): Promise<void>;
}

/** Listens on `host:port`. Rejects with LISTEN_FAILED. */
export async function listenTls(input: {
  readonly host: string;
  readonly port: number;
  readonly identity: Identity;
  readonly doors: Doors;
  readonly log: Logger;
}): Promise<Listener> {
  const { host, port, identity, doors, log } = input;
  const server = createServer({
    ...serverOptions(identity, CONTROL_ALPN),
    // The handshake is let end and the certificate judged in `route`: so a refusal has a reason, and
    // the peer is told it. Nothing else looks at a connection.
    rejectUnauthorized: false,
    handshakeTimeout: CONNECT_MS_MAX,
  });
  server.maxConnections = CONNECTIONS_MAX;
  server.headersTimeout = CONNECT_MS_MAX;
  server.requestTimeout = CONNECT_MS_MAX;
  server.on('request', (_request, response) =>
    response.writeHead(404, { connection: 'close' }).end(),
  );
  server.on('tlsClientError', (error, socket) => {
    log.warn(
      { code: 'code' in error ? error.code : '', from: socket.remoteAddress },
      'handshake failed',
    );
  });
  const sockets = { host: framed(MESSAGE_BYTES_MAX), operator: framed(API_FRAME_BYTES_MAX) };
  server.on('upgrade', (request, stream, head) => {
    try {
      route({ request, stream, head, sockets, doors });
    } catch (thrown) {
      const { code, detail } = MigError.from(thrown);
      log.warn({ code, detail }, 'connection refused');
      // And not only our half of it: whoever never closes his would keep his place here for ever.
      stream.end(
        `HTTP/1.1 403 Forbidden\r\n${REFUSAL_HEADER}: ${code}\r\nContent-Length: 0\r\n\r\n`,
        () => stream.destroy(),
      );
    }
  });
  await listening(server, host, port);
  const bound = server.address();
  return {
    address: typeof bound === 'object' && bound !== null ? `${host}:${bound.port}` : host,
    renew: (renewed) => server.setSecureContext(serverOptions(renewed, CONTROL_ALPN)),
    close: () => {
      for (const { clients } of Object.values(sockets)) {
        for (const socket of clients) socket.terminate();
      }
      server.closeAllConnections();
      return new Promise((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}

/** Accepts WebSockets whose frames are of at most `maxPayload` bytes. */
const framed = (maxPayload: number) =>
  new WebSocketServer({
    noServer: true,
    maxPayload,
    perMessageDeflate: false,
    clientTracking: true,
  });

function route(input: {
  readonly request: IncomingMessage;
  readonly stream: Duplex;
  readonly head: Buffer;
  readonly sockets: { readonly host: WebSocketServer; readonly operator: WebSocketServer };
  readonly doors: Doors;
}): void {
  const { request, stream, head, sockets, doors } = input;
  if (!(stream instanceof TLSSocket)) throw new MigError('CERT_INVALID', 'not TLS');
  const refused = refusalOf(stream);
  if (refused !== undefined) throw new MigError(refused, `from ${stream.remoteAddress}`);
  const identity = peerIdentity(stream);
  if (identity.kind === 'host' && request.url === MIGRATE_PATH) {
    const refusal = doors.refusal();
    if (refusal !== undefined) throw refusal;
    const peer = hostPeer(stream);
    sockets.host.handleUpgrade(request, stream, head, (socket) => {
      doors.host(new ControlChannel(socket, stream, peer));
    });
    return;
  }
  if (identity.kind === 'host' && request.url === SERVE_PATH) {
    const peer = hostPeer(stream);
    sockets.host.handleUpgrade(request, stream, head, (socket) => {
      doors.serving(new ControlChannel(socket, stream, peer));
    });
    return;
  }
  if (identity.kind === 'host' && request.url === HANDOVER_PATH) {
    const peer = hostPeer(stream);
    sockets.host.handleUpgrade(request, stream, head, (socket) => {
      doors.handover(new ControlChannel(socket, stream, peer));
    });
    return;
  }
  if (identity.kind === 'operator' && request.url === API_PATH) {
    sockets.operator.handleUpgrade(request, stream, head, (socket) =>
      doors.operator(socket, identity.name),
    );
    return;
  }
  throw new MigError('CERT_INVALID', `${identity.kind} ${identity.name} at ${request.url}`);
}

const listening = (server: Server, host: string, port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new MigError('LISTEN_FAILED', `${host}:${port}: ${cause.message}`, { cause })),
    );
    server.listen(port, host, () => resolve());
  });
