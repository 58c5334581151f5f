/** A certificate with its key and what it trusts, read from the PKI's folder. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import path from 'node:path';
import { createSecureContext } from 'node:tls';
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

/**
 * Reads what `name` needs to speak TLS, and makes sure that it works together: an empty or foreign
 * file would else be found at the first connection, or (an empty revocation list at a server) never.
 * Throws PKI_MISSING (also for a damaged file), CERT_INVALID (a certificate that is not of that
 * name or not of that CA). Whether it has expired is judged by the peer, at each handshake.
 */
export function loadIdentity(directory: string, name: string): Identity {
  const at = (file: string) => path.join(directory, file);
  const certPem = readText(at(`${name}.crt`));
  const caPem = readText(at('ca.crt'));
  const crlPem = readText(at('ca.crl'));
  const keyPem = readKey(at(`${name}.key`));
  const certificate = parse(certPem, at(`${name}.crt`));
  const ca = parse(caPem, at('ca.crt'));
  const { kind, name: certified } = identityOf(certificate);
  if (certified !== name) throw new MigError('CERT_INVALID', `${name}.crt names ${certified}`);
  if (!certificate.checkIssued(ca) || !certificate.verify(ca.publicKey)) {
    throw new MigError('CERT_INVALID', `${name}.crt is not of the CA in ca.crt`);
  }
  if (!holdsKeyOf(certificate, keyPem)) {
    throw new MigError('PKI_MISSING', `${at(`${name}.key`)} is damaged or another's`);
  }
  try {
    createSecureContext({ crl: crlPem });
  } catch (cause) {
    throw new MigError('PKI_MISSING', `${at('ca.crl')} is damaged`, { cause });
  }
  return { name, kind, certPem, keyPem, caPem, crlPem };
}

function parse(pem: string, file: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new MigError('PKI_MISSING', `${file} is damaged`, { cause });
  }
}

function holdsKeyOf(certificate: X509Certificate, keyPem: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(keyPem));
  } catch {
    // Nothing of what parsing a private key says goes further.
    return false;
  }
}
