/**
 * The exchange file of a guest: what its agent and the daemon's data workers hand to each other
 * without the daemon's main thread in between. In this order:
 *
 *     state area    1 MiB    device state ‖ vTPM state, as long as the agent said
 *     dirty bitmap           one bit a page of RAM: page p is bit p & 7 of byte p >> 3
 */
import { MiB, PAGE_BYTES } from '../base/units.ts';

export const STATE_BYTES_MAX = MiB;

export interface ExchangeLayout {
  readonly stateOffset: number;
  readonly bitmapOffset: number;
  readonly bitmapBytes: number;
  readonly totalBytes: number;
}

export function exchangeLayout(ramBytes: number): ExchangeLayout {
  const bitmapBytes = Math.ceil(ramBytes / PAGE_BYTES / 8);
  const wholePages = Math.ceil(bitmapBytes / PAGE_BYTES) * PAGE_BYTES;
  return {
    stateOffset: 0,
    bitmapOffset: STATE_BYTES_MAX,
    bitmapBytes,
    totalBytes: STATE_BYTES_MAX + wholePages,
  };
}
