/**
 * The migration CA and what it issued, in one folder: `ca.crt ca.key ca.crl index.json` and
 * `NAME.crt NAME.key`. Lives are short, what is revoked is on the list at once.
 */
import {
  createPrivateKey,
  generateKeyPairSync,
  X509Certificate,
  type KeyObject,
} from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import type { Clock, Random } from '../../base/ports.ts';
import { MigError } from '../../protocol/error.ts';
import { nameSchema } from '../../protocol/options.ts';
import { readKey, readText, writeWhole } from './files.ts';
import { KINDS, spiffeUri, type Kind } from './spiffe.ts';
import { makeCertificate, makeRevocationList } from './x509.ts';

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

const entrySchema = z.strictObject({
  name: nameSchema,
  kind: z.enum(KINDS),
  serial: z.string().regex(/^[0-9a-f]{32}$/),
  notBefore: z.iso.datetime(),
  notAfter: z.iso.datetime(),
  fingerprint256: z.string(),
  revokedAt: z.iso.datetime().nullable(),
});
const indexSchema = z.strictObject({
  trustDomain: z.string().regex(/^[a-z0-9][a-z0-9.-]{0,252}$/),
  revocationLists: z.number().int().min(1),
  issued: z.array(entrySchema),
});
export type Issued = z.infer<typeof entrySchema>;
type Index = z.infer<typeof indexSchema>;

export interface Ports {
  readonly clock: Pick<Clock, 'wall'>;
  readonly random: Random;
}

export class PkiDirectory {
  readonly #path: string;
  readonly #ports: Ports;
  #index: Index;

  private constructor(directory: string, index: Index, ports: Ports) {
    this.#path = directory;
    this.#index = index;
    this.#ports = ports;
  }

  /** Makes a new CA in `directory`. Throws PKI_EXISTS when there is one. */
  static init(directory: string, ports: Ports, trustDomain = 'migd.local'): PkiDirectory {
    if (existsSync(path.join(directory, 'ca.key'))) throw new MigError('PKI_EXISTS', directory);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const made = new PkiDirectory(
      directory,
      { trustDomain, revocationLists: 1, issued: [] },
      ports,
    );
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    made.#writeKey('ca', privateKey);
    const { notBefore, notAfter } = made.#life(LIFE_MS.ca);
    const certificate = makeCertificate({
      subject: made.#caName,
      issuer: made.#caName,
      serial: made.#serial(),
      notBefore,
      notAfter,
      publicKey,
      issuerKey: privateKey,
      uri: `spiffe://${trustDomain}`,
      use: 'ca',
    });
    writeWhole(made.#at('ca.crt'), certificate, 0o644);
    made.#writeIndex();
    made.#writeRevocationList();
    return made;
  }

  /** Throws PKI_MISSING, CERT_INVALID. */
  static open(directory: string, ports: Ports): PkiDirectory {
    const parsed = indexSchema.safeParse(json(readText(path.join(directory, 'index.json'))));
    if (!parsed.success) throw new MigError('PKI_MISSING', `${directory}/index.json is damaged`);
    return new PkiDirectory(directory, parsed.data, ports);
  }

  /** A certificate and a new key for `name`. Throws PKI_NAME_KIND when it has another kind already. */
  issue(name: string, kind: Kind, lifeMs: number = LIFE_MS[kind]): Issued {
    if (name === 'ca') throw new MigError('PKI_NAME_KIND', 'ca is the CA itself');
    const other = this.#index.issued.find((entry) => entry.name === name && entry.kind !== kind);
    if (other !== undefined) throw new MigError('PKI_NAME_KIND', `${name} is ${other.kind}`);
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const serial = this.#serial();
    const { notBefore, notAfter } = this.#life(lifeMs);
    const { trustDomain } = this.#index;
    const certificate = makeCertificate({
      subject: { organization: trustDomain, commonName: name },
      issuer: this.#caName,
      serial,
      notBefore,
      notAfter,
      publicKey,
      issuerKey: this.#caKey(),
      uri: spiffeUri({ trustDomain, kind, name }),
      use: kind === 'host' ? 'host' : 'client',
    });
    this.#writeKey(name, privateKey);
    writeWhole(this.#at(`${name}.crt`), certificate, 0o644);
    const entry: Issued = {
      name,
      kind,
      serial,
      notBefore: notBefore.toISOString(),
      notAfter: notAfter.toISOString(),
      fingerprint256: new X509Certificate(certificate).fingerprint256,
      revokedAt: null,
    };
    this.#index = { ...this.#index, issued: [...this.#index.issued, entry] };
    this.#writeIndex();
    return entry;
  }

  /** Revokes every certificate of `name`. Throws PKI_UNKNOWN. */
  revoke(name: string): readonly Issued[] {
    const revokedAt = new Date(this.#ports.clock.wall()).toISOString();
    const concerned = (entry: Issued) => entry.name === name && entry.revokedAt === null;
    if (!this.#index.issued.some(concerned)) throw new MigError('PKI_UNKNOWN', name);
    this.#index = {
      ...this.#index,
      revocationLists: this.#index.revocationLists + 1,
      issued: this.#index.issued.map((entry) =>
        concerned(entry) ? { ...entry, revokedAt } : entry,
      ),
    };
    this.#writeIndex();
    this.#writeRevocationList();
    return this.#index.issued.filter((entry) => entry.name === name);
  }

  /** Everything ever issued here, oldest first. */
  list(): readonly Issued[] {
    return this.#index.issued;
  }

  get #caName() {
    return { organization: this.#index.trustDomain, commonName: 'migration CA' };
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
    writeWhole(
      this.#at(`${name}.key`),
      key.export({ type: 'pkcs8', format: 'pem' }).toString(),
      0o600,
    );
  }

  #writeIndex(): void {
    writeWhole(this.#at('index.json'), `${JSON.stringify(this.#index, null, 2)}\n`, 0o600);
  }

  #writeRevocationList(): void {
    const { notBefore, notAfter } = this.#life(REVOCATION_LIST_LIFE_MS);
    const revoked = this.#index.issued.flatMap(({ serial, revokedAt }) =>
      revokedAt === null ? [] : [{ serial, at: new Date(revokedAt) }],
    );
    const list = makeRevocationList({
      issuer: this.#caName,
      issuerKey: this.#caKey(),
      number: this.#index.revocationLists,
      thisUpdate: notBefore,
      nextUpdate: notAfter,
      revoked,
    });
    writeWhole(this.#at('ca.crl'), list, 0o644);
  }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
