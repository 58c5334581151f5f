/**
 * Which pages one of several channels carries: chunks of 64 pages in turn, so that contiguous runs
 * stay and both a small working set and a large one spread over the channels.
 */
import { assert } from '../base/assert.ts';
import type { Bitmap, PageRange } from './bitmap.ts';

export const CHUNK_PAGES = 64;

export interface Share {
  readonly index: number;
  readonly of: number;
}

/** The ranges of a share in `pageCount` pages, in order; one range when there is but one share. */
export function* rangesOf(pageCount: number, share: Share): Generator<PageRange, void, void> {
  assert(share.of >= 1 && share.index >= 0 && share.index < share.of, 'a share out of range');
  if (share.of === 1) {
    if (pageCount > 0) yield { first: 0, count: pageCount };
    return;
  }
  const step = CHUNK_PAGES * share.of;
  for (let first = share.index * CHUNK_PAGES; first < pageCount; first += step) {
    yield { first, count: Math.min(CHUNK_PAGES, pageCount - first) };
  }
}

/** The runs of `dirty` pages within a share, in order. */
export function* dirtyRangesOf(dirty: Bitmap, share: Share): Generator<PageRange, void, void> {
  for (const { first, count } of rangesOf(dirty.pageCount, share)) {
    yield* dirty.runs(first, first + count);
  }
}
