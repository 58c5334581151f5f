/**
 * The cipher suites of data records, one line each. A suite encrypts with Key_enc, authenticates header
 * and ciphertext by a tag of its own, and has the transcript of headers and tags authenticated by
 * HMAC-SHA-256 under Key_mac (transcript.ts).
 *
 * The legacy ones are there to be compared with: a daemon refuses them unless its configuration names
 * them. `3des-cbc+hmac-sha1` is what the literature measured; `none` neither hides nor authenticates
 * anything by itself.
 */
import type { SuiteName } from '../protocol/options.ts';

export interface Suite {
  /** As OpenSSL names it; null: none. */
  readonly cipher: 'aes-256-gcm' | 'chacha20-poly1305' | 'aes-256-ctr' | 'des-ede3-cbc' | null;
  /** Of Key_enc, how much the cipher takes. */
  readonly keyBytes: number;
  /** Where the tag comes from: the cipher, an HMAC over header ‖ ciphertext, or nowhere. */
  readonly tagOf: 'cipher' | 'sha256' | 'sha1' | null;
  /** Bytes of the cipher's nonce; in CTR the last 4 of them count blocks. */
  readonly nonceBytes: number;
  /** Whether the nonce may be foreseen; CBC's may not. */
  readonly nonceOf: 'count' | 'prf';
  /** Plaintext is filled up with zeros to a multiple of this. */
  readonly blockBytes: number;
  readonly tagBytes: number;
}

const COUNTED = { keyBytes: 32, nonceOf: 'count', blockBytes: 1 } as const;

// prettier-ignore
export const SUITES: { readonly [N in SuiteName]: Suite } = {
  'aes-256-gcm+hmac-sha256': { ...COUNTED, cipher: 'aes-256-gcm', tagOf: 'cipher', nonceBytes: 12, tagBytes: 16 },
  'chacha20-poly1305+hmac-sha256': { ...COUNTED, cipher: 'chacha20-poly1305', tagOf: 'cipher', nonceBytes: 12, tagBytes: 16 },
  'aes-256-ctr+hmac-sha256': { ...COUNTED, cipher: 'aes-256-ctr', tagOf: 'sha256', nonceBytes: 16, tagBytes: 32 },
  '3des-cbc+hmac-sha1': { cipher: 'des-ede3-cbc', keyBytes: 24, tagOf: 'sha1', nonceBytes: 8, nonceOf: 'prf', blockBytes: 8, tagBytes: 20 },
  none: { ...COUNTED, cipher: null, tagOf: null, nonceBytes: 12, tagBytes: 0 },
};

/** Bytes of the ciphertext of so much plaintext. */
export const ciphertextBytes = ({ blockBytes }: Suite, plaintextBytes: number): number =>
  Math.ceil(plaintextBytes / blockBytes) * blockBytes;
