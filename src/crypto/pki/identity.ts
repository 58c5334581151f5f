/** A certificate with its key and what it trusts, read from the PKI's folder. */
import { X509Certificate } from 'node:crypto';
import path from 'node:path';
import { MigError } from '../../protocol/error.ts';
import { readKey, readText } from './files.ts';
import { identityOf, type Kind } from './spiffe.ts';

/** The texts are PEM. */
export interface Identity {
  readonly name: string;
  readonly kind: Kind;
  readonly certPem: string;
  readonly keyPem: string;
  readonly caPem: string;
  readonly crlPem: string;
}

/** Throws PKI_MISSING, CERT_INVALID. */
export function loadIdentity(directory: string, name: string): Identity {
  const at = (file: string) => path.join(directory, file);
  const certPem = readText(at(`${name}.crt`));
  const { kind, name: certified } = identityOf(new X509Certificate(certPem));
  if (certified !== name) throw new MigError('CERT_INVALID', `${name}.crt names ${certified}`);
  return {
    name,
    kind,
    certPem,
    keyPem: readKey(at(`${name}.key`)),
    caPem: readText(at('ca.crt')),
    crlPem: readText(at('ca.crl')),
  };
}
