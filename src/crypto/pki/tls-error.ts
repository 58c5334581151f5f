/**
 * What a failed handshake means, from the codes of Node and OpenSSL (never from texts): both what we
 * found wrong with the peer's certificate and what the peer, by its alert, found wrong with ours.
 */
import type { TLSSocket } from 'node:tls';
import type { Code } from '../../protocol/codes.ts';

const MEANING: Readonly<Record<string, Code>> = {
  // The peer's certificate, as we verified it (X509_V_ERR_… of OpenSSL's x509_vfy.h)
  CERT_HAS_EXPIRED: 'CERT_EXPIRED',
  CERT_NOT_YET_VALID: 'CERT_EXPIRED',
  CRL_HAS_EXPIRED: 'CERT_EXPIRED',
  CRL_NOT_YET_VALID: 'CERT_EXPIRED',
  CERT_REVOKED: 'CERT_REVOKED',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'CERT_INVALID',
  SELF_SIGNED_CERT_IN_CHAIN: 'CERT_INVALID',
  UNABLE_TO_GET_ISSUER_CERT: 'CERT_INVALID',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'CERT_INVALID',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'CERT_INVALID',
  UNABLE_TO_GET_CRL: 'CERT_INVALID',
  CERT_SIGNATURE_FAILURE: 'CERT_INVALID',
  CRL_SIGNATURE_FAILURE: 'CERT_INVALID',
  INVALID_CA: 'CERT_INVALID',
  CERT_CHAIN_TOO_LONG: 'CERT_INVALID',
  PATH_LENGTH_EXCEEDED: 'CERT_INVALID',
  INVALID_PURPOSE: 'CERT_INVALID',
  CERT_UNTRUSTED: 'CERT_INVALID',
  CERT_REJECTED: 'CERT_INVALID',
  UNSPECIFIED: 'CERT_INVALID',
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'CERT_INVALID',
  // Ours, as the peer's alert says (RFC 8446 §6.2)
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: 'CERT_EXPIRED',
  'ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_EXPIRED': 'CERT_EXPIRED',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_REVOKED: 'CERT_REVOKED',
  'ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_REVOKED': 'CERT_REVOKED',
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: 'CERT_INVALID',
  'ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE': 'CERT_INVALID',
  ERR_SSL_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE: 'CERT_INVALID',
  'ERR_SSL_SSL/TLS_ALERT_UNSUPPORTED_CERTIFICATE': 'CERT_INVALID',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: 'CERT_INVALID',
  'ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_UNKNOWN': 'CERT_INVALID',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'CERT_INVALID',
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: 'CERT_INVALID',
  // The network
  ECONNREFUSED: 'PEER_UNREACHABLE',
  EHOSTUNREACH: 'PEER_UNREACHABLE',
  ENETUNREACH: 'PEER_UNREACHABLE',
  EADDRNOTAVAIL: 'PEER_UNREACHABLE',
  ENOTFOUND: 'PEER_UNREACHABLE',
  EAI_AGAIN: 'PEER_UNREACHABLE',
  ETIMEDOUT: 'PEER_UNREACHABLE',
  ERR_SOCKET_CONNECTION_TIMEOUT: 'PEER_UNREACHABLE',
};

/** The code for an error of a TLS socket; what has no entry is a closed connection. */
export function classifyTlsError(error: Error): Code {
  const { code } = error as NodeJS.ErrnoException;
  return (code === undefined ? undefined : MEANING[code]) ?? 'PEER_CLOSED';
}

/**
 * What is wrong with the certificate of a peer whose handshake was let end (`rejectUnauthorized:
 * false`, so that it can be told why); undefined when it is good.
 */
export function refusalOf(socket: TLSSocket): Code | undefined {
  if (socket.authorized) return undefined;
  // Typed as an Error, but it is the code of the verification's error.
  return MEANING[String(socket.authorizationError)] ?? 'CERT_INVALID';
}
