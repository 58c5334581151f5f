/**
 * One end of a bare socket, in a process of its own: the yardstick of what Node moves from one
 * process to another with nothing of ours in between. Told what to do by its parent:
 *
 *     { do: 'listen' } → { port } · { do: 'send', port } → { ms }, from the first write until the
 *     other end has said that all has arrived
 *
 * Arguments: `tcp` or `tls`, the number of bytes, the folder of certificates.
 */
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import {
  connect as connectTls,
  createServer as createTlsServer,
  type SecureVersion,
} from 'node:tls';
import { MiB } from '../src/base/units.ts';
import { loadIdentity } from '../src/crypto/pki/identity.ts';

export type Asked = { readonly do: 'listen' } | { readonly do: 'send'; readonly port: number };
export type Answer = { readonly port: number } | { readonly ms: number };

const [form = 'tcp', size = '', certs = ''] = process.argv.slice(2);
const BYTES = Number(size);
const WRITE_BYTES = MiB;
const TLS_1_3: SecureVersion = 'TLSv1.3';

/** TLS as Node does it by itself, with one suite of the same strength as ours. */
const tlsOptions = () => {
  const { certPem: cert, keyPem: key, caPem: ca } = loadIdentity(certs, 'host-a');
  return { cert, key, ca, minVersion: TLS_1_3, checkServerIdentity: () => undefined };
};

/** Counts what comes and answers one byte when it is all there. */
function receive(socket: Socket): void {
  let left = BYTES;
  socket.on('data', (bytes) => {
    left -= bytes.length;
    if (left === 0) socket.end('.');
  });
  socket.on('error', (error) => {
    if (left > 0) throw error;
  });
}

async function listen(): Promise<number> {
  const server: Server =
    form === 'tls' ? createTlsServer(tlsOptions(), receive) : createServer(receive);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return port;
}

let content: Buffer | undefined;

/** Incompressible, and as large as a guest: it comes from memory, not from a cache. */
function contentToSend(): Buffer {
  if (content !== undefined) return content;
  content = Buffer.allocUnsafe(BYTES);
  for (let at = 0; at < BYTES; at += WRITE_BYTES) {
    randomFillSync(content, at, Math.min(WRITE_BYTES, BYTES - at));
  }
  return content;
}

async function send(port: number): Promise<number> {
  const bytes = contentToSend();
  const at = { port, host: '127.0.0.1' };
  const socket = form === 'tls' ? connectTls({ ...tlsOptions(), ...at }) : connect(at);
  await once(socket, form === 'tls' ? 'secureConnect' : 'connect');
  const startedAt = performance.now();
  const arrived = once(socket, 'data');
  for (let from = 0; from < BYTES; from += WRITE_BYTES) {
    const room = socket.write(bytes.subarray(from, from + WRITE_BYTES));
    if (!room) await once(socket, 'drain');
  }
  await arrived;
  const ms = performance.now() - startedAt;
  socket.destroy();
  return ms;
}

process.on('message', (asked: Asked) => {
  const answer: Promise<Answer> =
    asked.do === 'listen'
      ? listen().then((port) => ({ port }))
      : send(asked.port).then((ms) => ({ ms }));
  answer.then(
    (said) => process.send?.(said),
    (error: unknown) => {
      throw error;
    },
  );
});
process.on('disconnect', () => process.exit());
