/**
 * The encrypted form of a saved vTPM state. One file:
 *
 *     header: magic "migdvtrs" · version u16 · save counter u64 · salt 32 · plaintext length u32
 *     AES-256-GCM ciphertext · tag 16                               (header as associated data)
 *
 * Why a nonce never repeats under a key: every save draws a new 256-bit salt, and
 * HKDF-SHA-384(directory key, salt) gives the data key of that one save, which encrypts one message
 * and is wiped. A data key comes back only if two salts agree (2^64 saves give a chance of 2^-129),
 * however often a save is interrupted, repeated, or an old file, and with it an old counter, is
 * put back: nothing of the uniqueness rests on what is on disk. The counter is the GCM nonce all
 * the same, so that a broken random generator would have to meet an equal counter before it harms.
 *
 * Knows nothing of files.
 */
import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto';
import { VTPM_STATE_BYTES_MAX } from '../base/limits.ts';
import type { Random } from '../base/ports.ts';
import { MigError } from '../protocol/error.ts';
import { ByteWriter } from './binary.ts';

export const DIRECTORY_KEY_BYTES = 32;
export const SEALED_MAGIC = Buffer.from('migdvtrs', 'latin1');

const VERSION = 1;
const SALT_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const DATA_KEY_BYTES = 32;
const DATA_KEY_LABEL = 'migd vtpm state at rest v1';

const COUNTER_AT = SEALED_MAGIC.length + 2;
const SALT_AT = COUNTER_AT + 8;
const LENGTH_AT = SALT_AT + SALT_BYTES;
export const SEALED_HEADER_BYTES = LENGTH_AT + 4;
export const SEALED_BYTES_MAX = SEALED_HEADER_BYTES + VTPM_STATE_BYTES_MAX + TAG_BYTES;

/** Seals `state` as save number `counter`; `state` and `key` stay the caller's to wipe. */
export function seal(state: Uint8Array, key: Buffer, counter: number, random: Random): Buffer {
  if (state.length > VTPM_STATE_BYTES_MAX) throw refused('the state is too large to save');
  const salt = random.bytes(SALT_BYTES);
  const header = new ByteWriter(SEALED_HEADER_BYTES).raw(SEALED_MAGIC).u16(VERSION);
  const aad = header.u64(counter).raw(salt).u32(state.length).finish();
  const dataKey = deriveDataKey(key, salt);
  try {
    const cipher = createCipheriv('aes-256-gcm', dataKey, nonceOf(aad)).setAAD(aad);
    return Buffer.concat([aad, cipher.update(state), cipher.final(), cipher.getAuthTag()]);
  } finally {
    dataKey.fill(0);
  }
}

/** The state in `sealed`, in a buffer of its own that the caller wipes. Throws VTPM_FAILED. */
export function open(sealed: Buffer, key: Buffer): Buffer {
  const aad = sealed.subarray(0, SEALED_HEADER_BYTES);
  if (savedCounter(aad) === null) throw refused('the saved state has no valid header');
  if (sealed.length !== SEALED_HEADER_BYTES + aad.readUInt32BE(LENGTH_AT) + TAG_BYTES) {
    throw refused('the saved state has the wrong length');
  }
  const dataKey = deriveDataKey(key, aad.subarray(SALT_AT, LENGTH_AT));
  let state: Buffer | undefined;
  try {
    const nonce = nonceOf(aad);
    const decipher = createDecipheriv('aes-256-gcm', dataKey, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(aad).setAuthTag(sealed.subarray(-TAG_BYTES));
    state = decipher.update(sealed.subarray(SEALED_HEADER_BYTES, -TAG_BYTES));
    decipher.final();
    return state;
  } catch (cause) {
    state?.fill(0);
    throw new MigError('VTPM_FAILED', 'the saved state was altered or is under another key', {
      cause,
    });
  } finally {
    dataKey.fill(0);
  }
}

/** The counter that a header claims, unauthenticated; null if it is no header of ours. */
export function savedCounter(header: Buffer): number | null {
  if (header.length < SEALED_HEADER_BYTES) return null;
  if (!header.subarray(0, SEALED_MAGIC.length).equals(SEALED_MAGIC)) return null;
  if (header.readUInt16BE(SEALED_MAGIC.length) !== VERSION) return null;
  const counter = header.readBigUInt64BE(COUNTER_AT);
  return counter < BigInt(Number.MAX_SAFE_INTEGER) ? Number(counter) : null;
}

/** The 96-bit nonce: the counter of the header with four zero bytes before it. */
function nonceOf(header: Buffer): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.set(header.subarray(COUNTER_AT, SALT_AT), NONCE_BYTES - 8);
  return nonce;
}

const deriveDataKey = (key: Buffer, salt: Uint8Array): Buffer =>
  Buffer.from(hkdfSync('sha384', key, salt, DATA_KEY_LABEL, DATA_KEY_BYTES));

const refused = (why: string): MigError => new MigError('VTPM_FAILED', why);
