/**
 * Records sealed and opened by OpenSSL's own calls: straight out of the memory they are given, into
 * one buffer that is made once, or in place. No allocation a record, one copy of nothing. The same
 * bytes as crypto/record-cipher.ts makes.
 *
 * evp.h, hmac.h of OpenSSL 3.
 */
import { timingSafeEqual } from 'node:crypto';
import { assert } from '../base/assert.ts';
import { RECORD_BYTES_MAX } from '../base/limits.ts';
import type { DirectionKeys } from '../crypto/key-schedule.ts';
import type {
  OpeningCipher,
  RecordCiphers,
  Sealed,
  SealingCipher,
} from '../crypto/record-cipher.ts';
import { ciphertextBytes, type Suite } from '../crypto/suites.ts';
import { RECORD_HEADER_BYTES } from '../protocol/record.ts';
import { done, openssl, type Address } from './openssl.ts';

const EVP_get_cipherbyname = openssl('uintptr_t EVP_get_cipherbyname(const char *name)');
const EVP_CIPHER_CTX_new = openssl('uintptr_t EVP_CIPHER_CTX_new()');
const EVP_CIPHER_CTX_free = openssl('void EVP_CIPHER_CTX_free(uintptr_t ctx)');
const EVP_CIPHER_CTX_ctrl = openssl(
  'int EVP_CIPHER_CTX_ctrl(uintptr_t ctx, int type, int arg, void *ptr)',
);
const EVP_CipherInit_ex = openssl(
  'int EVP_CipherInit_ex(uintptr_t ctx, uintptr_t type, uintptr_t engine, void *key, void *iv, int enc)',
);
const EVP_CipherUpdate = openssl(
  'int EVP_CipherUpdate(uintptr_t ctx, void *out, void *outl, void *in, int inl)',
);
const EVP_CipherFinal_ex = openssl('int EVP_CipherFinal_ex(uintptr_t ctx, void *out, void *outl)');
const EVP_CIPHER_CTX_set_padding = openssl(
  'int EVP_CIPHER_CTX_set_padding(uintptr_t ctx, int padding)',
);
const EVP_CTRL_AEAD_GET_TAG = 0x10;
const EVP_CTRL_AEAD_SET_TAG = 0x11;
/** EVP_CipherInit_ex: as it was before. */
const UNCHANGED = -1;

const EVP_get_digestbyname = openssl('uintptr_t EVP_get_digestbyname(const char *name)');
const HMAC_CTX_new = openssl('uintptr_t HMAC_CTX_new()');
const HMAC_CTX_free = openssl('void HMAC_CTX_free(uintptr_t ctx)');
const HMAC_Init_ex = openssl(
  'int HMAC_Init_ex(uintptr_t ctx, void *key, int len, uintptr_t md, uintptr_t engine)',
);
const HMAC_Update = openssl('int HMAC_Update(uintptr_t ctx, void *data, size_t len)');
const HMAC_Final = openssl('int HMAC_Final(uintptr_t ctx, void *md, void *len)');

export const nativeCiphers: RecordCiphers = {
  sealing: (suite, keys) => new NativeSealing(suite, keys),
  opening: (suite, keys) => new NativeOpening(suite, keys),
};

/** An EVP_CIPHER_CTX that has its key; the key is wiped with it. */
class CipherContext implements Disposable {
  readonly #context: Address;
  readonly #written = new Int32Array(64);

  constructor(cipher: string, key: Uint8Array, direction: 'encrypt' | 'decrypt') {
    const type = done(cipher, Number(EVP_get_cipherbyname(cipher)));
    this.#context = done('EVP_CIPHER_CTX_new', Number(EVP_CIPHER_CTX_new()));
    const encrypts = direction === 'encrypt' ? 1 : 0;
    this.#do('init', EVP_CipherInit_ex(this.#context, type, 0, key, null, encrypts));
    this.#do('padding', EVP_CIPHER_CTX_set_padding(this.#context, 0));
  }

  begin(nonce: Uint8Array): void {
    this.#do('init', EVP_CipherInit_ex(this.#context, 0, 0, null, nonce, UNCHANGED));
  }

  /**
   * `to`: null for associated data, else room for what comes and a block that came before. Returns the
   * bytes written: of a cipher of blocks, whole ones.
   */
  update(from: Uint8Array, to: Uint8Array | null): number {
    assert(to === null || to.length >= from.length, 'no room for what is to be written');
    if (from.length === 0) return 0;
    const result = EVP_CipherUpdate(this.#context, to, this.#written, from, from.length);
    this.#do('update', result);
    return this.#written[0] ?? 0;
  }

  /** Whether the tag that was set is right; when sealing always true. */
  finish(): boolean {
    return EVP_CipherFinal_ex(this.#context, this.#written, this.#written) === 1;
  }

  readTag(tag: Uint8Array): void {
    this.#do('tag', EVP_CIPHER_CTX_ctrl(this.#context, EVP_CTRL_AEAD_GET_TAG, tag.length, tag));
  }

  setTag(tag: Uint8Array): void {
    this.#do('tag', EVP_CIPHER_CTX_ctrl(this.#context, EVP_CTRL_AEAD_SET_TAG, tag.length, tag));
  }

  #do(call: string, result: number): void {
    done(`EVP cipher ${call}`, result);
  }

  [Symbol.dispose](): void {
    EVP_CIPHER_CTX_free(this.#context);
  }
}

/** An HMAC under one key, again and again; the key is wiped with it. */
class MacContext implements Disposable {
  readonly #context: Address;

  constructor(hash: string, key: Uint8Array) {
    const digest = done(hash, Number(EVP_get_digestbyname(hash)));
    this.#context = done('HMAC_CTX_new', Number(HMAC_CTX_new()));
    done('HMAC_Init_ex', HMAC_Init_ex(this.#context, key, key.length, digest, 0));
  }

  begin(): void {
    done('HMAC_Init_ex', HMAC_Init_ex(this.#context, null, 0, 0, 0));
  }

  update(bytes: Uint8Array): void {
    if (bytes.length > 0) done('HMAC_Update', HMAC_Update(this.#context, bytes, bytes.length));
  }

  /** `tag`: of the hash's length. */
  finish(tag: Uint8Array): void {
    done('HMAC_Final', HMAC_Final(this.#context, tag, null));
  }

  [Symbol.dispose](): void {
    HMAC_CTX_free(this.#context);
  }
}

/** The contexts of a suite: a cipher, a MAC where the tag is not the cipher's, or neither. */
class Contexts implements Disposable {
  readonly cipher: CipherContext | undefined;
  readonly mac: MacContext | undefined;
  readonly #isAead: boolean;
  #isFreed = false;

  constructor({ cipher, keyBytes, tagOf }: Suite, keys: DirectionKeys, direction: Direction) {
    const key = keys.enc.expose().subarray(0, keyBytes);
    this.cipher = cipher === null ? undefined : new CipherContext(cipher, key, direction);
    this.#isAead = tagOf === 'cipher';
    const hasMac = tagOf !== 'cipher' && tagOf !== null;
    this.mac = hasMac ? new MacContext(tagOf, keys.mac.expose()) : undefined;
  }

  begin(header: Uint8Array, nonce: Uint8Array): void {
    assert(!this.#isFreed, 'a cipher used after it was wiped');
    this.cipher?.begin(nonce);
    if (this.#isAead) this.cipher?.update(header, null);
    this.mac?.begin();
    this.mac?.update(header);
  }

  [Symbol.dispose](): void {
    if (this.#isFreed) return;
    this.#isFreed = true;
    this.cipher?.[Symbol.dispose]();
    this.mac?.[Symbol.dispose]();
  }
}

type Direction = 'encrypt' | 'decrypt';

class NativeSealing implements SealingCipher {
  readonly #contexts: Contexts;
  readonly #suite: Suite;
  /** The record that was sealed last. The system gives it memory as far as records are long. */
  readonly #record: Uint8Array;

  constructor(suite: Suite, keys: DirectionKeys) {
    this.#contexts = new Contexts(suite, keys, 'encrypt');
    this.#suite = suite;
    const { blockBytes, tagBytes } = suite;
    this.#record = new Uint8Array(RECORD_HEADER_BYTES + RECORD_BYTES_MAX + blockBytes + tagBytes);
  }

  seal(header: Uint8Array, nonce: Uint8Array, pieces: readonly Uint8Array[]): Sealed {
    const { cipher, mac } = this.#contexts;
    this.#contexts.begin(header, nonce);
    if (cipher === undefined) return { record: [header, ...pieces], tag: NOTHING };
    this.#record.set(header);
    let end = RECORD_HEADER_BYTES;
    for (const piece of [...pieces, this.#fillingAfter(pieces)]) {
      end += cipher.update(piece, this.#record.subarray(end));
    }
    const tag = this.#record.subarray(end, end + this.#suite.tagBytes);
    if (mac === undefined) {
      cipher.finish();
      cipher.readTag(tag);
    } else {
      mac.update(this.#record.subarray(RECORD_HEADER_BYTES, end));
      mac.finish(tag);
    }
    return { record: [this.#record.subarray(0, end + tag.length)], tag };
  }

  #fillingAfter(pieces: readonly Uint8Array[]): Uint8Array {
    if (this.#suite.blockBytes === 1) return NOTHING;
    const plaintextBytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    return new Uint8Array(ciphertextBytes(this.#suite, plaintextBytes) - plaintextBytes);
  }

  [Symbol.dispose](): void {
    this.#contexts[Symbol.dispose]();
  }
}

const NOTHING = new Uint8Array(0);

class NativeOpening implements OpeningCipher {
  readonly #contexts: Contexts;
  readonly #expected: Uint8Array;

  constructor(suite: Suite, keys: DirectionKeys) {
    this.#contexts = new Contexts(suite, keys, 'decrypt');
    this.#expected = new Uint8Array(suite.tagBytes);
  }

  begin(header: Uint8Array, nonce: Uint8Array): void {
    this.#contexts.begin(header, nonce);
  }

  /** In its place. */
  update(ciphertext: Uint8Array): Uint8Array {
    this.#contexts.mac?.update(ciphertext);
    this.#contexts.cipher?.update(ciphertext, ciphertext);
    return ciphertext;
  }

  finish(tag: Uint8Array): boolean {
    const { cipher, mac } = this.#contexts;
    if (mac !== undefined) {
      mac.finish(this.#expected);
      return timingSafeEqual(this.#expected, tag);
    }
    cipher?.setTag(tag);
    return cipher === undefined || cipher.finish();
  }

  [Symbol.dispose](): void {
    this.#contexts[Symbol.dispose]();
  }
}
