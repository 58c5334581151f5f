/**
 * The migration CA and what it issued, in one folder: `ca.crt ca.key ca.crl index.json` and
 * `NAME.crt NAME.key`. Lives are short, what is revoked is on the list at once. A change that was
 * cut off at any point can be made again, and leaves no certificate that cannot be revoked.
 */
import {
  createPrivateKey,
  generateKeyPairSync,
  X509Certificate,
  type KeyObject,
} from 'node:crypto';
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Clock, Random } from '../../base/ports.ts';
import { MigError } from '../../protocol/error.ts';
import { nameSchema } from '../../protocol/options.ts';
import { asOnlyWriter, makeFolder, readKey, writeWhole } from './files.ts';
import { INDEX_FILE, readIndex, writeIndex, type Index, type Issued } from './index-file.ts';
import { spiffeUri, TRUST_DOMAIN, type Kind } from './spiffe.ts';
import { makeCertificate, makeRevocationList } from './x509.ts';

export type { Issued } from './index-file.ts';

const DAY_MS = 86_400_000;
const LIFE_MS: { readonly [K in Kind | 'ca']: number } = {
  ca: 3650 * DAY_MS,
  host: 90 * DAY_MS,
  operator: 30 * DAY_MS,
  owner: 30 * DAY_MS,
};
/** Clocks of honest hosts differ by less than this. */
const SKEW_MS = 5 * 60_000;
const REVOCATION_LIST_LIFE_MS = 365 * DAY_MS;

export interface Ports {
  readonly clock: Pick<Clock, 'wall'>;
  readonly random: Random;
}

export class PkiDirectory {
  readonly #path: string;
  readonly #ports: Ports;

  private constructor(directory: string, ports: Ports) {
    this.#path = directory;
    this.#ports = ports;
  }

  /**
   * Makes a new CA in `directory`. Throws PKI_EXISTS when anything of one is there (its key may be
   * kept elsewhere), USAGE for a trust domain that is none, PKI_BUSY, STORE_FAILED.
   */
  static init(directory: string, ports: Ports, trustDomain = 'migd.local'): PkiDirectory {
    if (!TRUST_DOMAIN.test(trustDomain)) throw new MigError('USAGE', 'not a trust domain');
    makeFolder(directory);
    return asOnlyWriter(directory, () => {
      for (const file of ['ca.key', 'ca.crt', INDEX_FILE]) {
        if (existsSync(path.join(directory, file))) throw new MigError('PKI_EXISTS', directory);
      }
      const made = new PkiDirectory(directory, ports);
      made.#makeCa(trustDomain);
      return made;
    });
  }

  /** Throws PKI_MISSING. */
  static open(directory: string, ports: Ports): PkiDirectory {
    readIndex(directory);
    return new PkiDirectory(directory, ports);
  }

  /**
   * A certificate and a new key for `name`; earlier ones stay valid until they expire or are
   * revoked. Throws PKI_NAME_KIND when the name is none or has another kind already, PKI_MISSING,
   * PKI_BUSY, STORE_FAILED.
   */
  issue(name: string, kind: Kind, lifeMs: number = LIFE_MS[kind]): Issued {
    if (!nameSchema.safeParse(name).success) throw new MigError('PKI_NAME_KIND', 'not a name');
    if (name === 'ca') throw new MigError('PKI_NAME_KIND', 'ca is the CA itself');
    return asOnlyWriter(this.#path, () => {
      const index = readIndex(this.#path);
      const other = index.issued.find((entry) => entry.name === name && entry.kind !== kind);
      if (other !== undefined) throw new MigError('PKI_NAME_KIND', `${name} is ${other.kind}`);
      const { entry, certificate, privateKey } = this.#certify(index, name, kind, lifeMs);
      // A new list with it, so that the list lives on where nothing is ever revoked; and the index
      // before the certificate, which could not be revoked without it.
      this.#publish({ ...index, issued: [...index.issued, entry] });
      this.#writeKey(name, privateKey);
      writeWhole(this.#at(`${name}.crt`), certificate, 0o644);
      return entry;
    });
  }

  /**
   * Revokes every certificate of `name` and returns them. Once more is harmless: the list is made
   * anew. Throws PKI_UNKNOWN, PKI_MISSING, PKI_BUSY, STORE_FAILED.
   */
  revoke(name: string): readonly Issued[] {
    return asOnlyWriter(this.#path, () => {
      const index = readIndex(this.#path);
      const now = new Date(this.#ports.clock.wall()).toISOString();
      const issued = index.issued.map((entry) =>
        entry.name === name ? { ...entry, revokedAt: entry.revokedAt ?? now } : entry,
      );
      const revoked = issued.filter((entry) => entry.name === name);
      if (revoked.length === 0) throw new MigError('PKI_UNKNOWN', name);
      this.#publish({ ...index, issued });
      return revoked;
    });
  }

  /** Everything ever issued here, oldest first. Throws PKI_MISSING. */
  list(): readonly Issued[] {
    return readIndex(this.#path).issued;
  }

  #makeCa(trustDomain: string): void {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const subject = caName(trustDomain);
    const certificate = makeCertificate({
      subject,
      issuer: subject,
      serial: this.#serial(),
      ...this.#life(LIFE_MS.ca),
      publicKey,
      issuerKey: privateKey,
      uri: `spiffe://${trustDomain}`,
      use: 'ca',
    });
    this.#writeKey('ca', privateKey);
    writeWhole(this.#at('ca.crt'), certificate, 0o644);
    this.#publish({ trustDomain, revocationLists: 0, issued: [] });
  }

  #certify(index: Index, name: string, kind: Kind, lifeMs: number) {
    const { trustDomain } = index;
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const serial = this.#serial();
    const { notBefore, notAfter } = this.#life(lifeMs);
    const certificate = makeCertificate({
      subject: { organization: trustDomain, commonName: name },
      issuer: caName(trustDomain),
      serial,
      notBefore,
      notAfter,
      publicKey,
      issuerKey: this.#caKey(),
      uri: spiffeUri({ trustDomain, kind, name }),
      use: kind === 'host' ? 'host' : 'client',
    });
    const entry: Issued = {
      name,
      kind,
      serial,
      notBefore: notBefore.toISOString(),
      notAfter: notAfter.toISOString(),
      fingerprint256: new X509Certificate(certificate).fingerprint256,
      revokedAt: null,
    };
    return { entry, certificate, privateKey };
  }

  /** Makes `index` durable and then the next revocation list from it. */
  #publish(index: Index): void {
    const number = index.revocationLists + 1;
    const { notBefore, notAfter } = this.#life(REVOCATION_LIST_LIFE_MS);
    const list = makeRevocationList({
      issuer: caName(index.trustDomain),
      issuerKey: this.#caKey(),
      number,
      thisUpdate: notBefore,
      nextUpdate: notAfter,
      revoked: index.issued.flatMap(({ serial, revokedAt }) =>
        revokedAt === null ? [] : [{ serial, at: new Date(revokedAt) }],
      ),
    });
    writeIndex(this.#path, { ...index, revocationLists: number });
    writeWhole(this.#at('ca.crl'), list, 0o644);
  }

  #at(file: string): string {
    return path.join(this.#path, file);
  }

  #caKey(): KeyObject {
    return createPrivateKey(readKey(this.#at('ca.key')));
  }

  /** 16 random bytes; the first bit is 0 and the second 1, so that it is positive and of full length. */
  #serial(): string {
    const bytes = Buffer.from(this.#ports.random.bytes(16));
    bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
    return bytes.toString('hex');
  }

  /** Whole seconds: certificates know no smaller unit. */
  #life(lifeMs: number): { notBefore: Date; notAfter: Date } {
    const now = Math.floor(this.#ports.clock.wall() / 1000) * 1000;
    return { notBefore: new Date(now - SKEW_MS), notAfter: new Date(now + lifeMs) };
  }

  #writeKey(name: string, key: KeyObject): void {
    const pem = key.export({ type: 'pkcs8', format: 'pem' }).toString();
    writeWhole(this.#at(`${name}.key`), pem, 0o600);
  }
}

const caName = (trustDomain: string) => ({
  organization: trustDomain,
  commonName: 'migration CA',
});
