/**
 * The running transcript of one channel and direction: which records there were, in which order, and
 * where a round ended. Tags chain, one a round:
 *
 *     tag_n = HMAC-SHA-256(Key_mac, label ‖ tag_{n-1} ‖ header ‖ tag of each record of round n)
 *
 * with 32 zero bytes before the first, or the lineage of a session that goes on from an earlier one
 * (48 bytes, protocol/resume-point.ts). The label keeps these inputs apart from those of the suite
 * that also authenticates records under Key_mac: a header begins with the version byte 1.
 */
import { createHash, createHmac, type Hmac } from 'node:crypto';
import type { MacKey } from './key-schedule.ts';

export const TRANSCRIPT_TAG_BYTES = 32;
const LABEL = Buffer.from('migd/1 transcript\0');

export class Transcript {
  readonly #key: MacKey;
  #running: Hmac;

  /** `key` stays the caller's. */
  constructor(key: MacKey, before: Uint8Array = Buffer.alloc(TRANSCRIPT_TAG_BYTES)) {
    this.#key = key;
    this.#running = this.#after(before);
  }

  /** One record, sealed or opened. */
  add(header: Uint8Array, tag: Uint8Array): void {
    this.#running.update(header).update(tag);
  }

  /** Closes the round: its tag, which the next one goes on from. */
  endRound(): Buffer {
    const tag = this.#running.digest();
    this.#running = this.#after(tag);
    return tag;
  }

  #after(previous: Uint8Array): Hmac {
    return createHmac('sha256', this.#key.expose()).update(LABEL).update(previous);
  }
}

/**
 * One SHA-384 for all channels: over the purpose, their number and each channel's tag, in order of
 * channels. `round` tags close a round, `final` ones the whole transfer.
 */
export function combineTags(purpose: 'round' | 'final', tags: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha384').update(`migd/1 ${purpose}\0`);
  hash.update(Uint8Array.of(tags.length >>> 8, tags.length & 0xff));
  for (const tag of tags) hash.update(tag);
  return hash.digest();
}
