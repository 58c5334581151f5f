/**
 * Form `tls` by OpenSSL's own calls: the handshake and the JOIN on Node's socket, so that a connection
 * that stays silent keeps nobody waiting; then a thread takes it over. Every check is that of the
 * portable form (tls-form.ts), on the same settings.
 */
import type { Socket } from 'node:net';
import { KiB } from '../base/units.ts';
import { JOIN_EXPORTER_BYTES, JOIN_EXPORTER_LABEL } from '../crypto/join-proof.ts';
import { classifyTlsError } from '../crypto/pki/tls-error.ts';
import { TlsContext } from '../native/tls-context.ts';
import { TlsSession } from '../native/tls.ts';
import { MigError } from '../protocol/error.ts';
import type { Connection, Ends, Secure } from './connection.ts';
import { checkAlpn, checkPeer } from './peer.ts';
import { receiveExactly, sendAll, takeOver } from './raw-socket.ts';
import { DATA_ALPN, nativeSettings } from './tls.ts';

/** Of plaintext, while a JOIN is read. */
const PIECE_BYTES = 4 * KiB;

export const nativeTlsClient: Secure = (socket, ends) => secure('client', socket, ends);

export const nativeTlsServer: Secure = async (socket, ends, known) => {
  const connection = await secure('server', socket, ends);
  known();
  return connection;
};

async function secure(
  side: 'client' | 'server',
  socket: Socket,
  { identity, expected }: Ends,
): Promise<Connection> {
  using context = new TlsContext(side, nativeSettings(identity, DATA_ALPN));
  const session = new TlsSession(context);
  // Whatever ends the socket before it is taken over ends the session.
  const free = () => session[Symbol.dispose]();
  socket.once('close', free);
  await shakeHands(session, socket);
  checkAlpn(session.alpnProtocol());
  checkPeer(session.peerCertificate(), expected);
  return {
    binding: {
      form: 'tls',
      bytes: session.exportKeyingMaterial(JOIN_EXPORTER_BYTES, JOIN_EXPORTER_LABEL),
    },
    send: (bytes) => {
      if (session.write(bytes) !== bytes.length) throw new Error('a memory BIO takes all');
      return sendAll(socket, session.take());
    },
    receive: (count, then) => receiveExactly(socket, count, then, (bytes) => open(session, bytes)),
    carry: () => {
      if (session.unreadBytes > 0) throw new MigError('CHANNEL_JOIN', 'bytes before they were due');
      socket.off('close', free);
      try {
        return { engine: 'native', link: session.putOnto(takeOver(socket)) };
      } catch (thrown) {
        free();
        throw thrown;
      }
    },
    destroy: () => socket.destroy(),
  };
}

/** Rejects with the code of what was wrong with either certificate, and PEER_CLOSED. */
function shakeHands(session: TlsSession, socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      socket.off('data', data).off('end', ended).off('error', ended).off('close', ended);
      socket.pause();
    };
    const ended = (cause?: Error) => {
      settle();
      const code = cause === undefined ? 'PEER_CLOSED' : classifyTlsError(cause);
      reject(new MigError(code, cause?.message ?? 'closed in the handshake', { cause }));
    };
    const data = (bytes: Uint8Array) => {
      try {
        session.give(bytes);
        const step = session.handshake();
        socket.write(session.take());
        if (step === 'wants more') return;
        settle();
        resolve();
      } catch (thrown) {
        // The alert that tells the peer why.
        socket.write(session.take());
        ended(thrown as Error);
      }
    };
    socket.on('data', data).once('end', ended).once('error', ended).once('close', ended);
    data(new Uint8Array(0));
    socket.resume();
  });
}

/** The plaintext of what came from the network. Throws TlsFailure. */
function open(session: TlsSession, bytes: Uint8Array): Buffer {
  session.give(bytes);
  const pieces: Buffer[] = [];
  for (;;) {
    const piece = Buffer.alloc(PIECE_BYTES);
    const got = session.read(piece);
    if (got === 0) return Buffer.concat(pieces);
    pieces.push(piece.subarray(0, got));
  }
}
