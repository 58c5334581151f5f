/** This host's certificate and key, read from the certificates' folder and read anew on SIGHUP. */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { loadIdentity, type Identity } from '../crypto/pki/identity.ts';
import { MigError } from '../protocol/error.ts';

export interface HostIdentity {
  readonly identity: Identity;
  /** Signs what this host says: the key of its certificate. */
  readonly hostKey: KeyObject;
}

/** Throws PKI_MISSING, CERT_INVALID. */
export function readIdentity(directory: string, name: string): HostIdentity {
  const identity = loadIdentity(directory, name);
  if (identity.kind !== 'host') {
    throw new MigError('CERT_INVALID', `${name} has a certificate of kind ${identity.kind}`);
  }
  return { identity, hostKey: createPrivateKey(identity.keyPem) };
}
