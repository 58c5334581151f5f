/** What every pretend migration has in common. */
import type { MigrateOptions } from '../../src/protocol/options.ts';
import { migrateOptionsSchema } from '../../src/protocol/options.ts';
import { descriptor } from '../unit/protocol/samples.ts';
import type { HostName } from './signature.ts';

export const DESCRIPTOR = descriptor();
export const NONCE = new Uint8Array(2);
export const POLICY = new Uint8Array(2);
export const SOFTWARE = ['software'] as const;
export const SPEAKS = {
  suites: ['aes-256-gcm+hmac-sha256'],
  forms: ['tls'],
  encodings: ['zero', 'raw'],
} as const;

export const OPTIONS: Readonly<Record<HostName, MigrateOptions>> = {
  'host-a': migrateOptionsSchema.parse({ vm: DESCRIPTOR.name, to: 'host-a' }),
  'host-b': migrateOptionsSchema.parse({ vm: DESCRIPTOR.name, to: 'host-b' }),
};

/** A round that was sent. */
export const SENT = { pages: 1024, zeroPages: 0, bytesSent: 4 << 20, tag: NONCE };

/** What a source says that it destroyed. */
export const DELETION = { stateDigest: NONCE, filesDestroyed: 2, bytesOverwritten: 10 };

/** What it says where nothing was left. */
export const NOTHING_DELETED = {
  stateDigest: new Uint8Array(0),
  filesDestroyed: 0,
  bytesOverwritten: 0,
};

/** The transcript by which a guest's content was sent. */
export function digestOf(content: number): Uint8Array {
  const digest = new Uint8Array(4);
  new DataView(digest.buffer).setUint32(0, content);
  return digest;
}
