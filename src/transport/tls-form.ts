/** Form `tls` by Node's own TLS streams. */
import { connect, createServer, type TLSSocket } from 'node:tls';
import { JOIN_MS_MAX } from '../base/limits.ts';
import { JOIN_EXPORTER_BYTES, JOIN_EXPORTER_LABEL } from '../crypto/join-proof.ts';
import { classifyTlsError, refusalOf } from '../crypto/pki/tls-error.ts';
import { MigError } from '../protocol/error.ts';
import type { Connection, Secure } from './connection.ts';
import { checkAlpn, checkPeer } from './peer.ts';
import { receiveExactly, sendAll } from './raw-socket.ts';
import { clientOptions, DATA_ALPN, serverOptions } from './tls.ts';

export const tlsClient: Secure = async (raw, { identity, expected }) => {
  const { writableHighWaterMark: highWaterMark } = raw;
  const options = { ...clientOptions(identity, DATA_ALPN), socket: raw, highWaterMark };
  const socket = connect(options);
  await secured(socket);
  check(socket, expected);
  return connectionOn(socket);
};

export const tlsServer: Secure = async (raw, { identity, expected }, known) => {
  const server = createServer({
    ...serverOptions(identity, DATA_ALPN),
    handshakeTimeout: JOIN_MS_MAX,
  });
  const socket = await new Promise<TLSSocket>((resolve, reject) => {
    server.once('secureConnection', resolve);
    server.once('tlsClientError', (error, tried) => reject(handshakeError(error, tried)));
    server.emit('connection', raw);
  });
  socket.on('error', ignore);
  check(socket, expected);
  known();
  return connectionOn(socket);
};

function check(socket: TLSSocket, expected: Parameters<typeof checkPeer>[1]): void {
  const refusal = refusalOf(socket);
  if (refusal !== undefined) throw new MigError(refusal, String(socket.authorizationError));
  checkAlpn(socket.alpnProtocol || '');
  checkPeer(socket.getPeerCertificate().raw, expected);
}

const connectionOn = (socket: TLSSocket): Connection => ({
  binding: {
    form: 'tls',
    bytes: socket.exportKeyingMaterial(JOIN_EXPORTER_BYTES, JOIN_EXPORTER_LABEL, Buffer.alloc(0)),
  },
  send: (bytes) => sendAll(socket, bytes),
  receive: (count) => receiveExactly(socket, count, 'go on'),
  carry: () => ({ engine: 'portable', socket }),
  destroy: () => socket.destroy(),
});

/** A connection dropped for its certificate fails with a mere reset: what was wrong is at the socket. */
function handshakeError(cause: Error, socket: TLSSocket): MigError {
  // Null, whatever its type says, as long as no certificate was judged.
  const wasJudged = Boolean(socket.authorizationError);
  const code = (wasJudged ? refusalOf(socket) : undefined) ?? classifyTlsError(cause);
  return new MigError(code, cause.message, { cause });
}

const secured = (socket: TLSSocket): Promise<void> =>
  new Promise((resolve, reject) => {
    const failed = (cause: Error) =>
      reject(new MigError(classifyTlsError(cause), cause.message, { cause }));
    socket.once('error', failed);
    socket.once('secureConnect', () => {
      socket.off('error', failed);
      socket.on('error', ignore);
      resolve();
    });
  });

const ignore = (): void => undefined;
