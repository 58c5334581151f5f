/** Random secrets to plant, and a search for all of them in any number of bytes at once. */
import { randomBytes } from 'node:crypto';

export const SECRET_BYTES = 32;

/** So many leading bytes of a secret are looked up in the table; the rest is compared. */
const PREFIX_BYTES = 3;

export const makeSecrets = (count: number): Buffer[] =>
  Array.from({ length: count }, () => randomBytes(SECRET_BYTES));

export class Search {
  /** Secrets by their first three bytes as a number. */
  readonly #byPrefix = new Map<number, Buffer[]>();
  /** One byte a prefix: almost every position is dismissed by one look into it. */
  readonly #known = new Uint8Array(1 << (8 * PREFIX_BYTES));

  constructor(secrets: readonly Buffer[]) {
    for (const secret of secrets) {
      const prefix = secret.readUIntBE(0, PREFIX_BYTES);
      this.#known[prefix] = 1;
      this.#byPrefix.set(prefix, [...(this.#byPrefix.get(prefix) ?? []), secret]);
    }
  }

  /** How many different secrets occur in `bytes`, wherever they begin. */
  count(bytes: Buffer): number {
    const found = new Set<Buffer>();
    const known = this.#known;
    let rolling = 0;
    for (let end = 0; end < bytes.length; end += 1) {
      rolling = ((rolling << 8) | (bytes[end] ?? 0)) & 0xffffff;
      if (known[rolling] === 0) continue;
      const at = end + 1 - PREFIX_BYTES;
      for (const secret of this.#byPrefix.get(rolling) ?? []) {
        if (secret.equals(bytes.subarray(at, at + SECRET_BYTES))) found.add(secret);
      }
    }
    return found.size;
  }
}
