/**
 * Secret bytes that wipe themselves. A secret has one allocation of its own (no shared pool), is
 * marked with its purpose, so that one kind of key cannot be passed for another, and is never made
 * of or turned into a string.
 */
import { createSecretKey, type KeyObject } from 'node:crypto';
import { assert } from '../base/assert.ts';

export class Secret<Purpose extends string> {
  readonly purpose: Purpose;
  #bytes: Uint8Array<ArrayBuffer> | undefined;
  #keyObject: KeyObject | undefined;

  /** Takes over `bytes`, which must be the whole of their buffer. */
  constructor(purpose: Purpose, bytes: Uint8Array<ArrayBuffer>) {
    assert(bytes.length > 0, 'an empty secret');
    assert(bytes.length === bytes.buffer.byteLength, 'a secret within a shared buffer');
    this.purpose = purpose;
    this.#bytes = bytes;
  }

  /** The bytes, for one call into a cipher or MAC; keep no reference. */
  expose(): Uint8Array<ArrayBuffer> {
    assert(this.#bytes !== undefined, `secret ${this.purpose} used after it was wiped`);
    return this.#bytes;
  }

  /**
   * The same as Node's own object, for a cipher or MAC that is begun for each record: with bytes
   * that takes 60 µs longer. Its copy of the bytes is wiped when it is freed (OPENSSL_clear_free).
   */
  keyObject(): KeyObject {
    this.#keyObject ??= createSecretKey(this.expose());
    return this.#keyObject;
  }

  /** Moves the bytes out, to be transferred to another thread; the secret is empty afterwards. */
  release(): Uint8Array<ArrayBuffer> {
    const bytes = this.expose();
    this.#forget();
    return bytes;
  }

  [Symbol.dispose](): void {
    this.#bytes?.fill(0);
    this.#forget();
  }

  #forget(): void {
    this.#bytes = undefined;
    this.#keyObject = undefined;
  }
}
