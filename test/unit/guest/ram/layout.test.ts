/** The map of a guest's RAM: parts in order, none overlapping, nothing beyond the end. */
import * as fc from 'fast-check';
import { test } from 'tap';
import { GiB, MiB, PAGE_BYTES } from '../../../../src/base/units.ts';
import { exchangeLayout, STATE_BYTES_MAX } from '../../../../src/guest/exchange.ts';
import { ramLayout } from '../../../../src/guest/ram/layout.ts';
import type { Workload } from '../../../../src/protocol/descriptor.ts';

const workload: fc.Arbitrary<Workload> = fc.oneof(
  fc.constant<Workload>({ kind: 'idle' }),
  fc.constant<Workload>({ kind: 'kv', port: 0 }),
  fc.integer({ min: 1, max: 4096 }).map((pages): Workload => ({
    kind: 'writer',
    rateBps: 1,
    workingSetBytes: pages * PAGE_BYTES,
  })),
);

void test('parts are in order and within', async () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 4096 }),
      fc.nat({ max: 8 * MiB }),
      workload,
      (pages, image, of) => {
        const layout = ramLayout(pages * PAGE_BYTES, image, of);
        const { imageFirst, kvFirst, kvPages, dataFirst, workingPages } = layout;
        if (imageFirst * PAGE_BYTES < pages * 4) throw new Error('the table is too short');
        if ((kvFirst - imageFirst) * PAGE_BYTES < image) throw new Error('the image is cut');
        if (dataFirst !== kvFirst + kvPages) throw new Error('a gap');
        // An image that does not fit is for the machine to refuse.
        if (dataFirst > pages) return;
        if (dataFirst + workingPages > pages || workingPages < 0) throw new Error('beyond the end');
      },
    ),
  );
});

void test('a known layout', (t) => {
  t.same(ramLayout(GiB, PAGE_BYTES + 1, { kind: 'kv', port: 0 }), {
    pages: 262_144,
    imageFirst: 256,
    imageBytes: 4097,
    kvFirst: 258,
    kvPages: 130_943,
    dataFirst: 131_201,
    workingPages: 0,
  });
  t.end();
});

void test('the exchange: a bit for every page, in whole pages', async () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 28 }), (pages) => {
      const layout = exchangeLayout(pages * PAGE_BYTES);
      if (layout.bitmapOffset !== STATE_BYTES_MAX) throw new Error('overlap');
      if (layout.bitmapBytes * 8 < pages || layout.bitmapBytes * 8 >= pages + 8)
        throw new Error('bits');
      const end = layout.bitmapOffset + layout.bitmapBytes;
      if (layout.totalBytes < end || layout.totalBytes % PAGE_BYTES !== 0) throw new Error('end');
    }),
  );
});
