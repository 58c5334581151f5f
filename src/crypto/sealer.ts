/**
 * Seals the records of one channel in one direction. The sealer owns the sequence number: it counts
 * every record, nobody can set it, and it stops at the limit, so that a nonce cannot repeat. It does
 * not know what a record says or where it goes.
 */
import { createCipheriv, createHmac, type CipherGCM } from 'node:crypto';
import { assert } from '../base/assert.ts';
import { RECORDS_PER_KEY_MAX } from '../base/limits.ts';
import { MigError } from '../protocol/error.ts';
import { encodeHeader, type RecordKind } from '../protocol/record.ts';
import type { DirectionKeys } from './key-schedule.ts';
import { recordNonce } from './record-nonce.ts';
import type { Suite } from './suites.ts';
import { Transcript } from './transcript.ts';

export interface SealerOptions {
  readonly suite: Suite;
  /** Taken over: wiped when the sealer is disposed of. */
  readonly keys: DirectionKeys;
  readonly channel: number;
  /** What the transcript begins from, in a session that goes on from an earlier one. */
  readonly lineage?: Uint8Array | undefined;
  /** For tests of the limit. */
  readonly recordsMax?: number;
}

export class Sealer {
  readonly #suite: Suite;
  readonly #keys: DirectionKeys;
  readonly #channel: number;
  readonly #recordsMax: number;
  readonly #transcript: Transcript;
  #sequence = 0;

  constructor(options: SealerOptions) {
    const { suite, keys, channel, lineage, recordsMax = RECORDS_PER_KEY_MAX } = options;
    assert(recordsMax <= RECORDS_PER_KEY_MAX, 'a higher limit than is safe');
    this.#suite = suite;
    this.#keys = keys;
    this.#channel = channel;
    this.#recordsMax = recordsMax;
    this.#transcript = new Transcript(keys.mac, lineage);
  }

  /**
   * The record of `pieces` as byte strings to send one after the other: header, ciphertext of each
   * piece, tag. Pieces are read once each, so they may lie in memory that a guest is writing to.
   * Throws KEY_EXHAUSTED.
   */
  seal(kind: RecordKind, pieces: readonly Uint8Array[]): Uint8Array[] {
    if (this.#sequence >= this.#recordsMax) {
      throw new MigError('KEY_EXHAUSTED', `${this.#sequence} records`);
    }
    const sequence = this.#sequence;
    this.#sequence += 1;
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const header = encodeHeader({ kind, channel: this.#channel, length, sequence });
    const record: Uint8Array[] = [header];
    const nonce = recordNonce(this.#suite, this.#channel, sequence);
    const tag =
      this.#suite.tagOf === 'cipher'
        ? this.#sealAead(nonce, pieces, record)
        : this.#encryptThenMac(nonce, pieces, record);
    record.push(tag);
    this.#transcript.add(header, tag);
    return record;
  }

  /** The transcript's tag up to here; the next round chains on it. */
  endRound(): Buffer {
    return this.#transcript.endRound();
  }

  [Symbol.dispose](): void {
    this.#keys[Symbol.dispose]();
  }

  /** Appends to `record`, whose first entry is the header. */
  #sealAead(nonce: Uint8Array, pieces: readonly Uint8Array[], record: Uint8Array[]): Uint8Array {
    const { cipher: name, tagBytes } = this.#suite;
    const header = headerOf(record);
    const cipher = createCipheriv(name as 'aes-256-gcm', this.#keys.enc.keyObject(), nonce, {
      authTagLength: tagBytes,
    }) satisfies CipherGCM;
    cipher.setAAD(header);
    for (const piece of pieces) record.push(cipher.update(piece));
    cipher.final();
    return cipher.getAuthTag();
  }

  #encryptThenMac(
    nonce: Uint8Array,
    pieces: readonly Uint8Array[],
    record: Uint8Array[],
  ): Uint8Array {
    const cipher = createCipheriv(this.#suite.cipher, this.#keys.enc.keyObject(), nonce);
    const hmac = createHmac('sha256', this.#keys.mac.keyObject()).update(headerOf(record));
    for (const piece of pieces) {
      const ciphertext = cipher.update(piece);
      hmac.update(ciphertext);
      record.push(ciphertext);
    }
    return hmac.digest();
  }
}

function headerOf(record: readonly Uint8Array[]): Uint8Array {
  const [header] = record;
  assert(header !== undefined, 'a record begins with its header');
  return header;
}
