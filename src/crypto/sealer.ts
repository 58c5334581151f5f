/**
 * Seals the records of one channel in one direction. The sealer owns the sequence number: it counts
 * every record, nobody can set it, and it stops at the limit, so that a nonce cannot repeat. It does
 * not know what a record says or where it goes.
 */
import { assert } from '../base/assert.ts';
import { RECORDS_PER_KEY_MAX } from '../base/limits.ts';
import { MigError } from '../protocol/error.ts';
import { encodeHeader, type RecordKind } from '../protocol/record.ts';
import type { DirectionKeys } from './key-schedule.ts';
import { portableCiphers, type RecordCiphers, type SealingCipher } from './record-cipher.ts';
import { recordNonce } from './record-nonce.ts';
import type { Suite } from './suites.ts';
import { Transcript } from './transcript.ts';

export interface SealerOptions {
  readonly suite: Suite;
  /** Taken over: wiped when the sealer is disposed of. */
  readonly keys: DirectionKeys;
  readonly channel: number;
  /** Of which make; portable unless said. */
  readonly ciphers?: RecordCiphers | undefined;
  /** What the transcript begins from, in a session that goes on from an earlier one. */
  readonly lineage?: Uint8Array | undefined;
  /** For tests of the limit. */
  readonly recordsMax?: number;
}

export class Sealer {
  readonly #suite: Suite;
  readonly #keys: DirectionKeys;
  readonly #cipher: SealingCipher;
  readonly #channel: number;
  readonly #recordsMax: number;
  readonly #transcript: Transcript;
  #sequence = 0;

  constructor(options: SealerOptions) {
    const { suite, keys, channel, lineage } = options;
    const { ciphers = portableCiphers, recordsMax = RECORDS_PER_KEY_MAX } = options;
    assert(recordsMax <= RECORDS_PER_KEY_MAX, 'a higher limit than is safe');
    this.#suite = suite;
    this.#keys = keys;
    this.#cipher = ciphers.sealing(suite, keys);
    this.#channel = channel;
    this.#recordsMax = recordsMax;
    this.#transcript = new Transcript(keys.mac, lineage);
  }

  /**
   * The record of `pieces` as byte strings to send one after the other, good until the next one.
   * Pieces are read once each, so they may lie in memory that a guest is writing to. Throws
   * KEY_EXHAUSTED.
   */
  seal(kind: RecordKind, pieces: readonly Uint8Array[]): readonly Uint8Array[] {
    if (this.#sequence >= this.#recordsMax) {
      throw new MigError('KEY_EXHAUSTED', `${this.#sequence} records`);
    }
    const sequence = this.#sequence;
    this.#sequence += 1;
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const header = encodeHeader({ kind, channel: this.#channel, length, sequence });
    const nonce = recordNonce(this.#suite, this.#keys.mac, this.#channel, sequence);
    const { record, tag } = this.#cipher.seal(header, nonce, pieces);
    this.#transcript.add(header, tag);
    return record;
  }

  /** The transcript's tag up to here; the next round chains on it. */
  endRound(): Buffer {
    return this.#transcript.endRound();
  }

  [Symbol.dispose](): void {
    this.#cipher[Symbol.dispose]();
    this.#keys[Symbol.dispose]();
  }
}
