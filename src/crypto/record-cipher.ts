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
} from 'node:crypto';
import { assert } from '../base/assert.ts';
import type { DirectionKeys } from './key-schedule.ts';
import type { Suite } from './suites.ts';

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

class AeadSealing implements SealingCipher {
  readonly #suite: Suite;
  readonly #keys: DirectionKeys;

  constructor(suite: Suite, keys: DirectionKeys) {
    this.#suite = suite;
    this.#keys = keys;
  }

  seal(header: Uint8Array, nonce: Uint8Array, pieces: readonly Uint8Array[]): Sealed {
    const { cipher: name, tagBytes } = this.#suite;
    const cipher = createCipheriv(name as 'aes-256-gcm', this.#keys.enc.keyObject(), nonce, {
      authTagLength: tagBytes,
    }) satisfies CipherGCM;
    cipher.setAAD(header);
    const ciphertext = pieces.map((piece) => cipher.update(piece));
    cipher.final();
    const tag = cipher.getAuthTag();
    return { record: [header, ...ciphertext, tag], tag };
  }

  [Symbol.dispose](): void {
    // Node frees its cipher with the garbage.
  }
}

class EncryptThenMac implements SealingCipher {
  readonly #suite: Suite;
  readonly #keys: DirectionKeys;

  constructor(suite: Suite, keys: DirectionKeys) {
    this.#suite = suite;
    this.#keys = keys;
  }

  seal(header: Uint8Array, nonce: Uint8Array, pieces: readonly Uint8Array[]): Sealed {
    const { enc, mac } = this.#keys;
    const cipher = createCipheriv(this.#suite.cipher, enc.keyObject(), nonce);
    const hmac = createHmac('sha256', mac.keyObject()).update(header);
    const ciphertext = pieces.map((piece) => cipher.update(piece));
    for (const piece of ciphertext) hmac.update(piece);
    const tag = hmac.digest();
    return { record: [header, ...ciphertext, tag], tag };
  }

  [Symbol.dispose](): void {
    // As above.
  }
}

/** One record under way. */
type Open =
  | { readonly kind: 'aead'; readonly cipher: DecipherGCM }
  | { readonly kind: 'mac'; readonly cipher: Decipheriv; readonly hmac: Hmac };

class PortableOpening implements OpeningCipher {
  readonly #suite: Suite;
  readonly #keys: DirectionKeys;
  #open: Open | undefined;

  constructor(suite: Suite, keys: DirectionKeys) {
    this.#suite = suite;
    this.#keys = keys;
  }

  begin(header: Uint8Array, nonce: Uint8Array): void {
    const { cipher: name, tagBytes, tagOf } = this.#suite;
    const { enc, mac } = this.#keys;
    if (tagOf === 'hmac') {
      const hmac = createHmac('sha256', mac.keyObject()).update(header);
      const cipher = createDecipheriv(name, enc.keyObject(), nonce);
      this.#open = { kind: 'mac', cipher, hmac };
      return;
    }
    const cipher = createDecipheriv(name as 'aes-256-gcm', enc.keyObject(), nonce, {
      authTagLength: tagBytes,
    });
    cipher.setAAD(header);
    this.#open = { kind: 'aead', cipher };
  }

  update(ciphertext: Uint8Array): Uint8Array {
    assert(this.#open !== undefined, 'ciphertext outside a record');
    if (this.#open.kind === 'mac') this.#open.hmac.update(ciphertext);
    return this.#open.cipher.update(ciphertext);
  }

  finish(tag: Uint8Array): boolean {
    const open = this.#open;
    assert(open !== undefined, 'a tag outside a record');
    this.#open = undefined;
    if (open.kind === 'mac') return timingSafeEqual(open.hmac.digest(), tag);
    open.cipher.setAuthTag(tag);
    try {
      // OpenSSL compares in constant time (CRYPTO_memcmp).
      open.cipher.final();
      return true;
    } catch {
      return false;
    }
  }

  [Symbol.dispose](): void {
    this.#open = undefined;
  }
}
