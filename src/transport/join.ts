/**
 * JOIN: the first 52 bytes each way on a data connection, before any record. The connecting side
 * (the source) proves first; the other answers only a right proof.
 *
 *     version u8 │ role u8 │ channel u16 │ proof (48 bytes)        big-endian
 */
import { timingSafeEqual, X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { identityOf } from '../crypto/pki/spiffe.ts';
import { classifyTlsError, refusalOf } from '../crypto/pki/tls-error.ts';
import {
  JOIN_EXPORTER_BYTES,
  JOIN_EXPORTER_LABEL,
  JOIN_PROOF_BYTES,
  joinProof,
  type Join,
  type JoinRole,
} from '../crypto/join-proof.ts';
import { MigError } from '../protocol/error.ts';
import { DATA_ALPN } from './tls.ts';

export const JOIN_BYTES = 4 + JOIN_PROOF_BYTES;
const JOIN_VERSION = 1;
const ROLE_BYTE: { readonly [R in JoinRole]: number } = { source: 1, destination: 2 };

/** The host that the control session is with. */
export interface ExpectedPeer {
  readonly name: string;
  /** SHA-256 of its certificate, as the control session saw it. */
  readonly fingerprint256: Uint8Array;
}

/** The frame that `role` sends on this connection. */
export function joinFrame(socket: TLSSocket, join: Join, role: JoinRole): Buffer {
  const exporter = socket.exportKeyingMaterial(
    JOIN_EXPORTER_BYTES,
    JOIN_EXPORTER_LABEL,
    Buffer.alloc(0),
  );
  try {
    const head = Uint8Array.of(
      JOIN_VERSION,
      ROLE_BYTE[role],
      join.channel >>> 8,
      join.channel & 0xff,
    );
    return Buffer.concat([head, joinProof(join, role, exporter)]);
  } finally {
    exporter.fill(0);
  }
}

/**
 * Reads the peer's frame and checks it, then pauses the socket. Throws CHANNEL_JOIN, also when the
 * connection ends or when anything comes after the frame: nothing may before ours is sent.
 */
export async function awaitJoin(socket: TLSSocket, join: Join, role: JoinRole): Promise<void> {
  const expected = joinFrame(socket, join, role);
  const frame = await readFrame(socket);
  if (!timingSafeEqual(frame, expected)) throw new MigError('CHANNEL_JOIN', 'wrong proof');
}

/** Who is at the other end must be the very host of the control session. Throws PEER_WRONG, CERT_INVALID. */
export function checkPeer(socket: TLSSocket, expected: ExpectedPeer): void {
  const refusal = refusalOf(socket);
  if (refusal !== undefined) throw new MigError(refusal, String(socket.authorizationError));
  if (socket.alpnProtocol !== DATA_ALPN) throw new MigError('CHANNEL_JOIN', 'another protocol');
  const raw = socket.getPeerCertificate().raw as Buffer | undefined;
  if (raw === undefined) throw new MigError('CERT_INVALID', 'no certificate');
  const { kind, name, fingerprint256 } = identityOf(new X509Certificate(raw));
  if (kind !== 'host') throw new MigError('CERT_INVALID', `a certificate of kind ${kind}`);
  if (name !== expected.name) throw new MigError('PEER_WRONG', `it is ${name}`);
  if (Buffer.compare(fingerprint256, expected.fingerprint256) !== 0) {
    throw new MigError('PEER_WRONG', 'another certificate than on the control channel');
  }
}

function readFrame(socket: TLSSocket): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const settle = () => {
      socket.off('data', data).off('end', ended).off('error', ended).off('close', ended);
      socket.pause();
    };
    const data = (bytes: Buffer) => {
      received = Buffer.concat([received, bytes]);
      if (received.length < JOIN_BYTES) return;
      settle();
      if (received.length === JOIN_BYTES) resolve(received);
      else reject(new MigError('CHANNEL_JOIN', 'bytes before they were due'));
    };
    const ended = (cause?: unknown) => {
      settle();
      // A peer that refuses our certificate says so only now: TLS 1.3 lets the client finish first.
      const code = cause instanceof Error ? classifyTlsError(cause) : 'PEER_CLOSED';
      const detail = 'closed before it joined';
      reject(new MigError(code === 'PEER_CLOSED' ? 'CHANNEL_JOIN' : code, detail, { cause }));
    };
    socket.on('data', data).once('end', ended).once('error', ended).once('close', ended);
    socket.resume();
  });
}
