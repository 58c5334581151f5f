/** Small things about byte strings. */

/**
 * Whether two byte strings are equal, in time that depends on their lengths only: also right for
 * tags and digests that an attacker may guess at.
 */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i += 1) difference |= (a[i] ?? 0) ^ (b[i] ?? 0);
  return difference === 0;
}
