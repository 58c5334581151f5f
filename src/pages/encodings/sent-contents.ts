/**
 * What pages were sent on one channel in one round, to find the same content again.
 *
 * Why a page that is found still has that content where it went: a channel's records are placed in order;
 * its pages are placed by it alone; a round sends each page once; and no guest runs there meanwhile. So from
 * when a page was sent until the round ends its content stands. The content itself may be gone here, for
 * the guest writes on: it is told by its SHA-256, and two that agree in that are the same.
 */
import { hash } from 'node:crypto';
import { SENT_CONTENTS_MAX } from '../../base/limits.ts';

/** Where fewer than one page in so many is found again, */
const RARE = 64;
/** only one batch in so many is looked through. */
const SELDOM = 8;
/** So much of what was found counts after each batch. */
const MEMORY = 0.9;

export class SentContents {
  /** By digest, the one that was looked for last at the end. */
  readonly #pages = new Map<string, number>();
  readonly #max: number;
  #batches = 0;
  #looked = 0;
  #found = 0;
  #isLooking = true;

  constructor(max = SENT_CONTENTS_MAX) {
    this.#max = max;
  }

  /** A round begins: what was sent before may be sent again. */
  clear(): void {
    this.#pages.clear();
  }

  /** Before each batch. */
  beginBatch(): void {
    this.#batches += 1;
    const isRare = this.#looked > 2 * RARE && this.#found * RARE < this.#looked;
    this.#isLooking = !isRare || this.#batches % SELDOM === 0;
    if (!this.#isLooking) return;
    this.#looked *= MEMORY;
    this.#found *= MEMORY;
  }

  /** A page sent before in this round that has this `content`; else it is `page` that has it now. */
  find(content: Uint8Array, page: number): number | undefined {
    if (!this.#isLooking) return undefined;
    const digest = hash('sha256', content, 'binary');
    const same = this.#pages.get(digest);
    this.#looked += 1;
    if (same === undefined) {
      this.#add(digest, page);
      return undefined;
    }
    this.#found += 1;
    this.#pages.delete(digest);
    this.#pages.set(digest, same);
    return same;
  }

  #add(digest: string, page: number): void {
    this.#pages.set(digest, page);
    if (this.#pages.size <= this.#max) return;
    const [oldest] = this.#pages.keys();
    if (oldest !== undefined) this.#pages.delete(oldest);
  }
}
