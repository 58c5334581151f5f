/**
 * One ECC P-256 key of the vTPM. The private scalar lives in a buffer that is wiped with the key;
 * OpenSSL's own copy is made at the first signature and cleared by OpenSSL when it is collected
 * (EC_KEY_free uses BN_clear_free). Never a string. Knows nothing of what is signed.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign,
  type KeyObject,
} from 'node:crypto';
import { malformed } from './binary.ts';

export const SCALAR_BYTES = 32;
/** One coordinate of a point. */
export const COORDINATE_BYTES = 32;

/** ECPrivateKey of RFC 5915 without the public key, which OpenSSL then derives: before the scalar … */
const SEC1_HEAD = Buffer.from('30310201010420', 'hex');
/** … and after it: the curve prime256v1. */
const SEC1_TAIL = Buffer.from('a00a06082a8648ce3d030107', 'hex');

/** The order n of P-256 (FIPS 186-5, SP 800-186 §3.2.1.3): a private scalar is 1 … n − 1. */
const ORDER = Buffer.from(
  'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551',
  'hex',
);

/** The key inside OpenSSL, and its SubjectPublicKeyInfo, DER. */
interface OpenedKey {
  readonly handle: KeyObject;
  readonly publicKey: Uint8Array;
}

export class EccKey {
  readonly #scalar: Buffer;
  #opened: OpenedKey | undefined;

  private constructor(scalar: Uint8Array) {
    this.#scalar = Buffer.alloc(SCALAR_BYTES);
    this.#scalar.set(scalar);
  }

  static generate(): EccKey {
    const { privateKey } = generateKeyPairSync('ec', {
      namedCurve: 'P-256',
      privateKeyEncoding: { format: 'der', type: 'sec1' },
      publicKeyEncoding: { format: 'der', type: 'spki' },
    });
    // SEQUENCE { INTEGER 1, OCTET STRING of 32 bytes, … }: the scalar has the same place as above.
    const key = new EccKey(privateKey.subarray(SEC1_HEAD.length, SEC1_HEAD.length + SCALAR_BYTES));
    privateKey.fill(0);
    return key;
  }

  /** The key of a saved scalar (copied). Throws VTPM_FAILED unless it is 1 … n − 1. */
  static fromScalar(scalar: Buffer): EccKey {
    const inRange = scalar.length === SCALAR_BYTES && scalar.compare(ORDER) < 0;
    if (!inRange || scalar.every((byte) => byte === 0)) throw malformed('a private key is invalid');
    return new EccKey(scalar);
  }

  /** The private scalar itself, not a copy: for the saved state only. */
  get scalar(): Uint8Array {
    return this.#scalar;
  }

  /** SubjectPublicKeyInfo, DER. */
  get publicKey(): Uint8Array {
    return new Uint8Array(this.#open().publicKey);
  }

  /** The coordinates of the public point: the end of the SubjectPublicKeyInfo, uncompressed. */
  get publicPoint(): { readonly x: Uint8Array; readonly y: Uint8Array } {
    const spki = this.publicKey;
    return {
      x: spki.subarray(-2 * COORDINATE_BYTES, -COORDINATE_BYTES),
      y: spki.subarray(-COORDINATE_BYTES),
    };
  }

  /** ECDSA over SHA-256 of `message`, DER. */
  sign(message: Uint8Array): Uint8Array {
    return new Uint8Array(sign('sha256', message, this.#open().handle));
  }

  [Symbol.dispose](): void {
    this.#scalar.fill(0);
    this.#opened = undefined;
  }

  /** Opened at the first use only: a vTPM that moves must not wait for it. */
  #open(): OpenedKey {
    if (this.#opened === undefined) {
      const der = Buffer.alloc(SEC1_HEAD.length + SCALAR_BYTES + SEC1_TAIL.length);
      der.set(SEC1_HEAD);
      der.set(this.#scalar, SEC1_HEAD.length);
      der.set(SEC1_TAIL, SEC1_HEAD.length + SCALAR_BYTES);
      const handle = createPrivateKey({ key: der, format: 'der', type: 'sec1' });
      der.fill(0);
      const spki = createPublicKey(handle).export({ format: 'der', type: 'spki' });
      this.#opened = { handle, publicKey: new Uint8Array(spki) };
    }
    return this.#opened;
  }
}
