/**
 * Who a certificate names: `spiffe://TRUST-DOMAIN/{host|operator|owner}/NAME` as its one URI among the
 * subject's alternative names (SPIFFE-ID and X.509-SVID specifications).
 */
import { createHash, type X509Certificate } from 'node:crypto';
import { MigError } from '../../protocol/error.ts';

export const KINDS = ['host', 'operator', 'owner'] as const;
export type Kind = (typeof KINDS)[number];

export interface Spiffe {
  readonly trustDomain: string;
  readonly kind: Kind;
  readonly name: string;
}

export interface CertifiedIdentity extends Spiffe {
  /** SHA-256 over the DER of the certificate. */
  readonly fingerprint256: Buffer;
}

/** A trust domain: at most 64 characters, as it is also the organisation's name (RFC 5280 App. A.1). */
export const TRUST_DOMAIN = /^[a-z0-9][a-z0-9.-]{0,63}$/;

const FORM =
  /^spiffe:\/\/([a-z0-9][a-z0-9.-]{0,63})\/(host|operator|owner)\/([a-z0-9][a-z0-9-]{0,62})$/;

/** A SPIFFE URI taken apart; undefined when it has another form. */
export function parseSpiffe(uri: string): Spiffe | undefined {
  const [, trustDomain, kind, name] = FORM.exec(uri) ?? [];
  if (trustDomain === undefined || name === undefined) return undefined;
  return { trustDomain, kind: kind as Kind, name };
}

export const spiffeUri = ({ trustDomain, kind, name }: Spiffe): string =>
  `spiffe://${trustDomain}/${kind}/${name}`;

/** The identity in a verified certificate. Throws CERT_INVALID unless there is exactly one. */
export function identityOf(certificate: X509Certificate): CertifiedIdentity {
  // Names that could confuse the list come quoted from OpenSSL, and ours never need it.
  const names = (certificate.subjectAltName ?? '').split(', ');
  const [first, ...others] = names;
  if (first === undefined || others.length > 0 || !first.startsWith('URI:')) {
    throw new MigError('CERT_INVALID', 'not exactly one URI as alternative name');
  }
  const identity = parseSpiffe(first.slice('URI:'.length));
  if (identity === undefined) throw new MigError('CERT_INVALID', 'no SPIFFE identity of ours');
  return { ...identity, fingerprint256: createHash('sha256').update(certificate.raw).digest() };
}
