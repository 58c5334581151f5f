/** Who is at the other end of a data connection must be the very host of the control session. */
import { X509Certificate } from 'node:crypto';
import { identityOf } from '../crypto/pki/spiffe.ts';
import { MigError } from '../protocol/error.ts';
import type { ExpectedPeer } from './connection.ts';
import { DATA_ALPN } from './tls.ts';

/** `certificate`: DER, verified by the handshake. Throws PEER_WRONG, CERT_INVALID. */
export function checkPeer(certificate: Uint8Array | undefined, expected: ExpectedPeer): void {
  if (certificate === undefined) throw new MigError('CERT_INVALID', 'no certificate');
  const { kind, name, fingerprint256 } = identityOf(new X509Certificate(certificate));
  if (kind !== 'host') throw new MigError('CERT_INVALID', `a certificate of kind ${kind}`);
  if (name !== expected.name) throw new MigError('PEER_WRONG', `it is ${name}`);
  if (Buffer.compare(fingerprint256, expected.fingerprint256) !== 0) {
    throw new MigError('PEER_WRONG', 'another certificate than on the control channel');
  }
}

/** Throws CHANNEL_JOIN. */
export function checkAlpn(protocol: string): void {
  if (protocol !== DATA_ALPN) throw new MigError('CHANNEL_JOIN', 'another protocol');
}
