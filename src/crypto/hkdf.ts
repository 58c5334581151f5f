/**
 * HKDF with SHA-384 (RFC 5869), its two stages apart: `node:crypto` offers only both at once, while
 * the key schedule extracts once and expands many times.
 */
import { createHmac } from 'node:crypto';
import { assert } from '../base/assert.ts';

const HASH = 'sha384';
export const HKDF_HASH_BYTES = 48;

/** RFC 5869 §2.2: a pseudorandom key of 48 bytes, in an allocation of its own. */
export function hkdfExtract(salt: Uint8Array, ikm: Uint8Array): Uint8Array<ArrayBuffer> {
  const digest = createHmac(HASH, salt).update(ikm).digest();
  const prk = Uint8Array.from(digest);
  digest.fill(0);
  return prk;
}

/** RFC 5869 §2.3: `length` bytes of output keying material, in an allocation of its own. */
export function hkdfExpand(
  prk: Uint8Array,
  info: Uint8Array,
  length: number,
): Uint8Array<ArrayBuffer> {
  assert(length >= 1 && length <= 255 * HKDF_HASH_BYTES, 'an impossible length of key');
  const output = new Uint8Array(length);
  let block = Buffer.alloc(0);
  for (let at = 0, counter = 1; at < length; at += HKDF_HASH_BYTES, counter += 1) {
    const hmac = createHmac(HASH, prk).update(block).update(info);
    block.fill(0);
    block = hmac.update(Uint8Array.of(counter)).digest();
    output.set(block.subarray(0, length - at), at);
  }
  block.fill(0);
  return output;
}
