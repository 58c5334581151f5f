/**
 * The exchange file of a guest: what its agent and the daemon's data workers hand to each other
 * without the daemon's main thread in between. In this order, each a multiple of a page:
 *
 *     state area    1 MiB    device state ‖ vTPM state, as long as the agent said
 *     dirty bitmap           one bit a page of RAM: page p is bit p & 7 of byte p >> 3. While a guest
 *                            runs whose memory is still coming (post-copy): the pages that are absent
 *     open bitmap            the same, of a post-copy: pages that no thread has taken on yet
 *     counters      4 KiB    of a post-copy (COUNTER)
 */
import { MiB, PAGE_BYTES } from '../base/units.ts';

export const STATE_BYTES_MAX = MiB;

/** 32-bit words, changed by several threads. */
export const COUNTER = {
  /** D: pages that are absent. */
  absent: 0,
  /** S: where the push is. */
  cursor: 1,
} as const;

export interface ExchangeLayout {
  readonly stateOffset: number;
  readonly bitmapOffset: number;
  readonly bitmapBytes: number;
  readonly openOffset: number;
  readonly countersOffset: number;
  readonly totalBytes: number;
}

export function exchangeLayout(ramBytes: number): ExchangeLayout {
  const bitmapBytes = Math.ceil(ramBytes / PAGE_BYTES / 8);
  const wholePages = Math.ceil(bitmapBytes / PAGE_BYTES) * PAGE_BYTES;
  const openOffset = STATE_BYTES_MAX + wholePages;
  const countersOffset = openOffset + wholePages;
  return {
    stateOffset: 0,
    bitmapOffset: STATE_BYTES_MAX,
    bitmapBytes,
    openOffset,
    countersOffset,
    totalBytes: countersOffset + PAGE_BYTES,
  };
}
