/** Two hosts of one PKI, memory files, and a session's secret at both ends. */
import { randomBytes, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Clock, Random } from '../../../../src/base/ports.ts';
import { SessionSecret } from '../../../../src/crypto/key-schedule.ts';
import { PkiDirectory } from '../../../../src/crypto/pki/directory.ts';
import { loadIdentity, type Identity } from '../../../../src/crypto/pki/identity.ts';
import { identityOf } from '../../../../src/crypto/pki/spiffe.ts';
import { CHANNEL_FORMS } from '../../../../src/protocol/options.ts';
import type { Engine } from '../../../../src/transport/connection.ts';

export const realClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after: (delayMs, fire) => {
    const timer = setTimeout(fire, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};
export const realRandom: Random = { bytes: (count) => randomBytes(count) };

const ENGINES: readonly Engine[] = ['native', 'portable'];

/** Every form of data channel between hosts of every engine. */
export const PAIRINGS = CHANNEL_FORMS.flatMap((form) =>
  ENGINES.flatMap((source) => ENGINES.map((destination) => ({ form, source, destination }))),
);
export type Pairing = (typeof PAIRINGS)[number];

export const titleOf = ({ form, source, destination }: Pairing): string =>
  `${form}, ${source} to ${destination}`;

export const MIGRATION_ID = '01890a5d-ac96-774b-bcce-b302099a8057';

export interface Host {
  readonly identity: Identity;
  readonly name: string;
  readonly fingerprint256: Uint8Array;
}

const hostOf = (directory: string, name: string): Host => {
  const identity = loadIdentity(directory, name);
  const { fingerprint256 } = identityOf(new X509Certificate(identity.certPem));
  return { identity, name, fingerprint256 };
};

/** Hosts of one new CA, in a folder that goes away with the process. */
export function makeHosts<N extends string>(...names: N[]): Record<N, Host> {
  const directory = mkdtempSync(path.join(tmpdir(), 'migd-test-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const pki = PkiDirectory.init(directory, { clock: realClock, random: realRandom });
  const entries = names.map((name) => {
    pki.issue(name, 'host');
    return [name, hostOf(directory, name)] as const;
  });
  return Object.fromEntries(entries) as Record<N, Host>;
}

/**
 * Host a as it was before its certificate was revoked, and host b, that knows of it; and the same of a
 * certificate that has expired, under a CA that has not.
 */
export function makeOutcasts(): {
  readonly revoked: Host;
  readonly expired: Host;
  readonly judge: Host;
} {
  const directory = mkdtempSync(path.join(tmpdir(), 'migd-test-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  let wall = Date.now();
  const clock = { ...realClock, wall: () => wall };
  const pki = PkiDirectory.init(directory, { clock, random: realRandom });
  // Long enough ago for a certificate, not for the CA.
  wall = Date.now() - 180 * DAY_MS;
  pki.issue('expired', 'host');
  wall = Date.now();
  for (const name of ['revoked', 'judge']) pki.issue(name, 'host');
  const revoked = hostOf(directory, 'revoked');
  pki.revoke('revoked');
  return { revoked, expired: hostOf(directory, 'expired'), judge: hostOf(directory, 'judge') };
}

const DAY_MS = 86_400_000;

/** The same secret at every call with the same `salt`. */
export const sessionSecret = (salt = 0): SessionSecret =>
  SessionSecret.extract({
    exporter: Buffer.alloc(48, 1),
    nonceS: Buffer.alloc(32, 2 + salt),
    nonceD: Buffer.alloc(32, 3),
    transcriptHash: Buffer.alloc(48, 4),
  });
