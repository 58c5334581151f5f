/**
 * Which pages of a broken round are still to be sent, by the order in which they were: each channel's
 * share from its lowest page up, of which the destination holds a prefix.
 */
import { assert } from '../../base/assert.ts';
import type { Bitmap } from '../../pages/bitmap.ts';
import { dirtyRangesOf } from '../../pages/share.ts';
import { ExchangeMapping, viewExchange } from './exchange-mapping.ts';
import type { MemoryPlace, RoundPages } from './messages.ts';

/**
 * Leaves in `pages`, which had those of a round (or nothing of importance, when that sent `all`),
 * what follows the first `accepted` pages of each channel.
 */
export function dropAccepted(pages: Bitmap, what: RoundPages, accepted: readonly number[]): void {
  if (what === 'all') pages.addRange({ first: 0, count: pages.pageCount });
  for (const [index, count] of accepted.entries()) {
    let left = count;
    for (const run of dirtyRangesOf(pages, { index, of: accepted.length })) {
      if (left === 0) break;
      const taken = Math.min(run.count, left);
      pages.removeRange({ first: run.first, count: taken });
      left -= taken;
    }
    assert(left === 0, 'more pages accepted than the round had');
  }
}

/** {@link dropAccepted} in a guest's exchange file; with `whole` nothing is left. */
export function keepUnacknowledged(
  place: MemoryPlace,
  what: RoundPages,
  accepted: readonly number[] | 'whole',
): void {
  using mapping = new ExchangeMapping(place);
  const { dirty } = viewExchange(mapping.mapped);
  if (accepted === 'whole') dirty.removeRange({ first: 0, count: dirty.pageCount });
  else dropAccepted(dirty, what, accepted);
}
