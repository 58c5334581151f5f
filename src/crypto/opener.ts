/**
 * Opens the records of one channel in one direction, as they arrive: header, ciphertext in any
 * pieces, tag. It insists on the next sequence number and the right channel before it decrypts
 * anything. What `update` returns is **not authenticated** until `finish` has returned: a caller may
 * put it where it can be thrown away, and may act on nothing of it.
 */
import { assert } from '../base/assert.ts';
import { RECORDS_PER_KEY_MAX } from '../base/limits.ts';
import { MigError } from '../protocol/error.ts';
import { parseHeader, RECORD_HEADER_BYTES, type RecordHeader } from '../protocol/record.ts';
import type { DirectionKeys } from './key-schedule.ts';
import { portableCiphers, type OpeningCipher } from './record-cipher.ts';
import { recordNonce } from './record-nonce.ts';
import type { SealerOptions } from './sealer.ts';
import { ciphertextBytes, type Suite } from './suites.ts';
import { Transcript } from './transcript.ts';

export class Opener {
  readonly #suite: Suite;
  readonly #keys: DirectionKeys;
  readonly #cipher: OpeningCipher;
  readonly #channel: number;
  readonly #recordsMax: number;
  readonly #transcript: Transcript;
  #sequence = 0;
  /** The header of the record under way. */
  #open: Uint8Array | undefined;
  /** Bytes of its plaintext to come; the rest only fills a block. */
  #left = 0;

  /** The same options as the sealer's at the other end. */
  constructor(options: SealerOptions) {
    const { suite, keys, channel, lineage } = options;
    const { ciphers = portableCiphers, recordsMax = RECORDS_PER_KEY_MAX } = options;
    assert(recordsMax <= RECORDS_PER_KEY_MAX, 'a higher limit than is safe');
    this.#suite = suite;
    this.#keys = keys;
    this.#cipher = ciphers.opening(suite, keys);
    this.#channel = channel;
    this.#recordsMax = recordsMax;
    this.#transcript = new Transcript(keys.mac, lineage);
  }

  get tagBytes(): number {
    return this.#suite.tagBytes;
  }

  /** Bytes between header and tag of a record of so much plaintext. */
  bodyBytes(plaintextBytes: number): number {
    return ciphertextBytes(this.#suite, plaintextBytes);
  }

  /** Bytes of a whole record of so much plaintext. */
  recordBytes(plaintextBytes: number): number {
    return RECORD_HEADER_BYTES + this.bodyBytes(plaintextBytes) + this.tagBytes;
  }

  /** Begins a record with its 16 bytes of header. Throws RECORD_MALFORMED, RECORD_ORDER, KEY_EXHAUSTED. */
  begin(bytes: Uint8Array): RecordHeader {
    assert(this.#open === undefined, 'a record begun within another');
    const parsed = parseHeader(bytes);
    if (parsed.channel !== this.#channel) {
      throw new MigError('RECORD_ORDER', `of channel ${parsed.channel} on ${this.#channel}`);
    }
    if (parsed.sequence !== this.#sequence) {
      throw new MigError('RECORD_ORDER', `${parsed.sequence}, expected ${this.#sequence}`);
    }
    if (this.#sequence >= this.#recordsMax) {
      throw new MigError('KEY_EXHAUSTED', `${this.#sequence} records`);
    }
    const header = Uint8Array.from(bytes);
    const { mac } = this.#keys;
    this.#cipher.begin(header, recordNonce(this.#suite, mac, this.#channel, this.#sequence));
    this.#left = parsed.length;
    this.#sequence += 1;
    this.#open = header;
    return parsed;
  }

  /** Plaintext of the next piece of ciphertext, whole blocks of it, perhaps in its place; not yet authenticated. */
  update(ciphertext: Uint8Array): Uint8Array {
    assert(this.#open !== undefined, 'ciphertext outside a record');
    const plaintext = this.#cipher.update(ciphertext);
    const wanted = plaintext.subarray(0, this.#left);
    this.#left -= wanted.length;
    return wanted;
  }

  /** Ends the record: only now may its plaintext be believed. Throws RECORD_FORGED. */
  finish(tag: Uint8Array): void {
    const header = this.#open;
    assert(header !== undefined, 'a tag outside a record');
    this.#open = undefined;
    if (tag.length !== this.#suite.tagBytes || !this.#cipher.finish(tag)) {
      throw new MigError('RECORD_FORGED', `record ${this.#sequence - 1}`);
    }
    this.#transcript.add(header, tag);
  }

  /** As {@link Sealer.endRound}; only between records. */
  endRound(): Buffer {
    assert(this.#open === undefined, 'a round ended within a record');
    return this.#transcript.endRound();
  }

  [Symbol.dispose](): void {
    this.#open = undefined;
    this.#cipher[Symbol.dispose]();
    this.#keys[Symbol.dispose]();
  }
}
