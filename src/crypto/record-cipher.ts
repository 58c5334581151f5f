/**
 * How one record is encrypted and authenticated under the keys of its channel: by node:crypto here,
 * by OpenSSL's own calls in native/record-cipher.ts. Both make the same bytes. Neither knows of
 * sequences, nonces or what a record says.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  timingSafeEqual,
  type CipherGCM,
  type Decipheriv,
  type DecipherGCM,
  type Hmac,
  type KeyObject,
} from 'node:crypto';
import { assert } from '../base/assert.ts';
import type { DirectionKeys } from './key-schedule.ts';
import { ciphertextBytes, type Suite } from './suites.ts';

export interface Sealed {
  /** header ‖ ciphertext ‖ tag in any pieces, good until the next record. */
  readonly record: readonly Uint8Array[];
  readonly tag: Uint8Array;
}

export interface SealingCipher extends Disposable {
  /** Reads each piece once: it may lie in memory that a guest is writing to. */
  seal(header: Uint8Array, nonce: Uint8Array, pieces: readonly Uint8Array[]): Sealed;
}

export interface OpeningCipher extends Disposable {
  begin(header: Uint8Array, nonce: Uint8Array): void;
  /** The plaintext of the next piece, perhaps in its place; **not authenticated**. */
  update(ciphertext: Uint8Array): Uint8Array;
  /** Whether all of it was genuine; compares in constant time. */
  finish(tag: Uint8Array): boolean;
}

/** Ciphers of one make. The keys stay the caller's, and alive as long as the cipher. */
export interface RecordCiphers {
  sealing(suite: Suite, keys: DirectionKeys): SealingCipher;
  opening(suite: Suite, keys: DirectionKeys): OpeningCipher;
}

/** By node:crypto. */
export const portableCiphers: RecordCiphers = {
  sealing: (suite, keys) =>
    suite.tagOf === 'cipher' ? new AeadSealing(suite, keys) : new EncryptThenMac(suite, keys),
  opening: (suite, keys) => new PortableOpening(suite, keys),
};

/** Node frees its ciphers with the garbage; a key object wipes its copy of the key then. */
abstract class Collected implements Disposable {
  protected readonly suite: Suite;
  protected readonly keys: DirectionKeys;

  constructor(suite: Suite, keys: DirectionKeys) {
    this.suite = suite;
    this.keys = keys;
  }

  [Symbol.dispose](): void {
    // Nothing of its own.
  }
}

class AeadSealing extends Collected implements SealingCipher {
  seal(header: Uint8Array, nonce: Uint8Array, pieces: readonly Uint8Array[]): Sealed {
    const { cipher: name, tagBytes } = this.suite;
    const cipher = createCipheriv(name as 'aes-256-gcm', this.keys.enc.keyObject(), nonce, {
      authTagLength: tagBytes,
    }) satisfies CipherGCM;
    cipher.setAAD(header);
    const ciphertext = pieces.map((piece) => cipher.update(piece));
    cipher.final();
    const tag = cipher.getAuthTag();
    return { record: [header, ...ciphertext, tag], tag };
  }
}

/** With the cipher and the MAC that the suite has; without the one or the other where it has none. */
class EncryptThenMac extends Collected implements SealingCipher {
  seal(header: Uint8Array, nonce: Uint8Array, pieces: readonly Uint8Array[]): Sealed {
    const ciphertext = this.#encrypt(nonce, pieces);
    const hmac = macOf(this.suite, this.keys)?.update(header);
    for (const piece of ciphertext) hmac?.update(piece);
    const tag = hmac?.digest() ?? new Uint8Array(0);
    return { record: [header, ...ciphertext, tag], tag };
  }

  #encrypt(nonce: Uint8Array, pieces: readonly Uint8Array[]): readonly Uint8Array[] {
    const { cipher: name } = this.suite;
    // A socket may still have it when the next record is made.
    if (name === null) return pieces.map((piece) => Uint8Array.from(piece));
    const cipher = createCipheriv(name, encryptionKey(this.suite, this.keys), nonce);
    cipher.setAutoPadding(false);
    const plaintextBytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const filling = new Uint8Array(ciphertextBytes(this.suite, plaintextBytes) - plaintextBytes);
    return [...pieces, filling].map((piece) => cipher.update(piece));
  }
}

const macOf = ({ tagOf }: Suite, { mac }: DirectionKeys): Hmac | undefined =>
  tagOf === 'cipher' || tagOf === null ? undefined : createHmac(tagOf, mac.keyObject());

/** As an object where the cipher takes all of it: that is begun 60 µs sooner. */
const encryptionKey = ({ keyBytes }: Suite, { enc }: DirectionKeys): KeyObject | Uint8Array =>
  keyBytes === enc.expose().length ? enc.keyObject() : enc.expose().subarray(0, keyBytes);

/** One record under way. */
type Open =
  | { readonly kind: 'aead'; readonly cipher: DecipherGCM }
  | {
      readonly kind: 'mac';
      readonly cipher: Decipheriv | undefined;
      readonly hmac: Hmac | undefined;
    };

class PortableOpening extends Collected implements OpeningCipher {
  #open: Open | undefined;

  begin(header: Uint8Array, nonce: Uint8Array): void {
    const { cipher: name, tagBytes, tagOf } = this.suite;
    if (tagOf === 'cipher') {
      const cipher = createDecipheriv(name as 'aes-256-gcm', this.keys.enc.keyObject(), nonce, {
        authTagLength: tagBytes,
      });
      cipher.setAAD(header);
      this.#open = { kind: 'aead', cipher };
      return;
    }
    const hmac = macOf(this.suite, this.keys)?.update(header);
    const key = encryptionKey(this.suite, this.keys);
    const cipher = name === null ? undefined : createDecipheriv(name, key, nonce);
    this.#open = { kind: 'mac', cipher: cipher?.setAutoPadding(false), hmac };
  }

  update(ciphertext: Uint8Array): Uint8Array {
    const open = this.#open;
    assert(open !== undefined, 'ciphertext outside a record');
    if (open.kind === 'mac') open.hmac?.update(ciphertext);
    // The reader has the buffer again when it returns.
    return open.cipher?.update(ciphertext) ?? Uint8Array.from(ciphertext);
  }

  finish(tag: Uint8Array): boolean {
    const open = this.#open;
    assert(open !== undefined, 'a tag outside a record');
    this.#open = undefined;
    if (open.kind === 'mac') return open.hmac === undefined || isSame(open.hmac.digest(), tag);
    open.cipher.setAuthTag(tag);
    try {
      // OpenSSL compares in constant time (CRYPTO_memcmp).
      open.cipher.final();
      return true;
    } catch {
      return false;
    }
  }

  override [Symbol.dispose](): void {
    this.#open = undefined;
  }
}

const isSame = (expected: Uint8Array, tag: Uint8Array): boolean =>
  expected.length === tag.length && timingSafeEqual(expected, tag);
