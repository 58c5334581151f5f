/**
 * The cipher suites of data records, one line each. Every suite encrypts with Key_enc, keeps the
 * length, authenticates header and ciphertext by a tag of its own, and has the transcript of headers
 * and tags authenticated by HMAC-SHA-256 under Key_mac (transcript.ts).
 */
import type { SuiteName } from '../protocol/options.ts';

export interface Suite {
  /** As OpenSSL names it. */
  readonly cipher: 'aes-256-gcm' | 'chacha20-poly1305' | 'aes-256-ctr';
  /** Where the tag comes from: the cipher, or HMAC-SHA-256 over header ‖ ciphertext. */
  readonly tagOf: 'cipher' | 'hmac';
  /** Bytes of the cipher's nonce; in CTR the last 4 of them count blocks. */
  readonly nonceBytes: number;
  readonly tagBytes: number;
}

// prettier-ignore
export const SUITES: { readonly [N in SuiteName]: Suite } = {
  'aes-256-gcm+hmac-sha256': { cipher: 'aes-256-gcm', tagOf: 'cipher', nonceBytes: 12, tagBytes: 16 },
  'chacha20-poly1305+hmac-sha256': { cipher: 'chacha20-poly1305', tagOf: 'cipher', nonceBytes: 12, tagBytes: 16 },
  'aes-256-ctr+hmac-sha256': { cipher: 'aes-256-ctr', tagOf: 'hmac', nonceBytes: 16, tagBytes: 32 },
};
