/**
 * The one place with TLS settings, for every connection between hosts and with operators: TLS 1.3
 * only, post-quantum key agreement first, certificates on both sides, the revocation list, an ALPN,
 * no resumption. It does not decide who may do what: who the peer is, is checked by its caller.
 */
import { constants } from 'node:crypto';
import { assert } from '../base/assert.ts';
import type { TlsSettings } from '../native/tls-context.ts';

export const CONTROL_ALPN = 'migd/1';
export const DATA_ALPN = 'migd-data/1';

/** What a side presents and what it trusts, as PEM. */
export interface TlsIdentity {
  readonly certPem: string;
  readonly keyPem: string;
  readonly caPem: string;
  readonly crlPem: string;
}

/** X25519 with ML-KEM-768 first (FIPS 203), then classical groups. */
const GROUPS = 'X25519MLKEM768:X25519:P-256';
const CIPHERS = 'TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';

function settings(identity: TlsIdentity, alpn: string) {
  // OpenSSL checks no revocation at all without a list.
  assert(identity.crlPem !== '', 'an empty revocation list');
  return {
    minVersion: 'TLSv1.3' as const,
    maxVersion: 'TLSv1.3' as const,
    ciphers: CIPHERS,
    honorCipherOrder: true,
    ecdhCurve: GROUPS,
    cert: identity.certPem,
    key: identity.keyPem,
    ca: identity.caPem,
    crl: identity.crlPem,
    ALPNProtocols: [alpn],
    // Stated, so that NODE_TLS_REJECT_UNAUTHORIZED cannot turn it off.
    rejectUnauthorized: true,
  };
}

/**
 * Options of a connecting side. Our certificates name no DNS host: the peer's SPIFFE identity is
 * what the caller must check after the handshake, before it sends anything.
 */
export const clientOptions = (identity: TlsIdentity, alpn: string) => ({
  ...settings(identity, alpn),
  checkServerIdentity: () => undefined,
});

/**
 * Options of a listening side. Without tickets a TLS 1.3 session could be resumed only from a cache
 * of sessions, and none is kept: every connection is a full handshake.
 */
export const serverOptions = (identity: TlsIdentity, alpn: string) => ({
  ...settings(identity, alpn),
  requestCert: true,
  secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
});

/** The same for the engine that calls OpenSSL itself, which has no other habits than these. */
export function nativeSettings(identity: TlsIdentity, alpn: string): TlsSettings {
  const { cert, key, ca, crl } = settings(identity, alpn);
  return {
    certPem: cert,
    keyPem: key,
    caPem: ca,
    crlPem: crl,
    ciphers: CIPHERS,
    groups: GROUPS,
    alpn,
  };
}
