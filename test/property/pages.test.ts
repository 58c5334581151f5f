/** Bitmaps, shares and page batches against naive ones; mutation; input split anywhere. */
import * as fc from 'fast-check';
import { test } from 'tap';
import { BATCH_DATA_BYTES_MAX, BATCH_PAGES_MAX, BATCH_RUNS_MAX } from '../../src/base/limits.ts';
import { PAGE_BYTES } from '../../src/base/units.ts';
import { decodeTable, encodeTable, tableBytes, type Run } from '../../src/pages/batch.ts';
import { Batcher, piecesOf, type PageSource } from '../../src/pages/batcher.ts';
import { Bitmap, type PageRange } from '../../src/pages/bitmap.ts';
import { Placer, type RegionSink } from '../../src/pages/placer.ts';
import { dirtyRangesOf, rangesOf } from '../../src/pages/share.ts';
import { MigError } from '../../src/protocol/error.ts';
import { ENCODING_NAMES, type EncodingName } from '../../src/protocol/options.ts';

const pagesOf = (ranges: Iterable<PageRange>): number[] =>
  [...ranges].flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i));

/** Bits, in runs long enough to cross bytes. */
const bits = fc
  .array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 20 })), { maxLength: 30 })
  .map((runs) => runs.flatMap(([bit, length]) => Array<boolean>(length).fill(bit)));

function bitmapOf(flags: readonly boolean[]): Bitmap {
  // The bytes beyond are dirty: they must not matter.
  const bytes = new Uint8Array(Bitmap.bytesFor(flags.length) + 3).fill(0xff);
  bytes.fill(0, 0, flags.length >>> 3);
  if (flags.length % 8 !== 0) bytes[flags.length >>> 3] = (0xff << (flags.length % 8)) & 0xff;
  const bitmap = new Bitmap(bytes, flags.length);
  for (const [page, flag] of flags.entries()) if (flag) bitmap.add(page);
  return bitmap;
}

void test('a bitmap finds what a naive search finds', async () => {
  fc.assert(
    fc.property(bits, fc.nat(), fc.nat(), (flags, a, b) => {
      const bitmap = bitmapOf(flags);
      const [from, end] = [a % (flags.length + 1), b % (flags.length + 1)];
      const within = flags.flatMap((flag, page) =>
        flag && page >= from && page < end ? [page] : [],
      );
      if (bitmap.count() !== flags.filter(Boolean).length) throw new Error('count');
      if (flags.some((flag, page) => bitmap.has(page) !== flag)) throw new Error('has');
      const runs = [...bitmap.runs(from, end)];
      if (String(pagesOf(runs)) !== String(within)) throw new Error('runs');
      const joined = runs.some(({ first }) =>
        runs.some((other) => other.first + other.count === first),
      );
      if (joined) throw new Error('two runs that touch');
      const clear = flags.findIndex((flag, page) => !flag && page >= from && page < end);
      if (bitmap.nextClear(from, end) !== (clear === -1 ? end : clear) && from < end) {
        throw new Error('nextClear');
      }
    }),
  );
});

void test('a range put into a bitmap or taken out of it, and nothing beside it', async () => {
  fc.assert(
    fc.property(bits, fc.nat(), fc.nat(), fc.boolean(), (flags, a, b, isIn) => {
      const first = a % (flags.length + 1);
      const count = b % (flags.length - first + 1);
      const bytes = new Uint8Array(Bitmap.bytesFor(flags.length) + 1).fill(isIn ? 0 : 0xff);
      // What follows the last page is not the bitmap's: it must stay.
      const bitmap = new Bitmap(bytes, flags.length);
      for (const [page, flag] of flags.entries()) {
        bitmap[flag ? 'addRange' : 'removeRange']({ first: page, count: 1 });
      }
      bitmap[isIn ? 'addRange' : 'removeRange']({ first, count });
      const whole = new Bitmap(bytes, bytes.length * 8);
      for (let page = 0; page < whole.pageCount; page += 1) {
        const within = page >= first && page < first + count;
        const expected = within ? isIn : (flags[page] ?? !isIn);
        if (whole.has(page) !== expected) throw new Error(`page ${page}`);
      }
    }),
  );
});

void test('every set of up to 10 pages, exhaustively', async () => {
  for (let size = 0; size <= 10; size += 1) {
    for (let set = 0; set < 2 ** size; set += 1) {
      const flags = Array.from({ length: size }, (_, page) => (set >>> page) % 2 === 1);
      const pages = flags.flatMap((flag, page) => (flag ? [page] : []));
      if (String(pagesOf(bitmapOf(flags).runs())) !== String(pages)) throw new Error(`set ${set}`);
    }
  }
});

void test('shares cover every page once, whatever their number', async () => {
  fc.assert(
    fc.property(fc.nat({ max: 1000 }), fc.integer({ min: 1, max: 7 }), bits, (count, of, flags) => {
      const shares = Array.from({ length: of }, (_, index) => ({ index, of }));
      const all = shares.flatMap((share) => pagesOf(rangesOf(count, share)));
      all.sort((x, y) => x - y);
      if (String(all) !== String(Array.from({ length: count }, (_, i) => i)))
        throw new Error('all');
      const bitmap = bitmapOf(flags);
      const dirty = shares.flatMap((share) => pagesOf(dirtyRangesOf(bitmap, share)));
      dirty.sort((x, y) => x - y);
      if (String(dirty) !== String(pagesOf(bitmap.runs()))) throw new Error('dirty');
    }),
  );
});

const ALL: ReadonlySet<EncodingName> = new Set(ENCODING_NAMES);
const termsOf = (regionPages: readonly number[]) => ({ regionPages, encodings: ALL });

const PAGES = 40;

/** Memory in which some pages are zero, some nearly so, the rest full. */
const memory = fc
  .array(fc.constantFrom('zero', 'first', 'middle', 'last', 'full'), {
    minLength: PAGES,
    maxLength: PAGES,
  })
  .map((kinds) => {
    const bytes = new Uint8Array(PAGES * PAGE_BYTES);
    for (const [page, kind] of kinds.entries()) {
      const at = page * PAGE_BYTES;
      if (kind === 'full') bytes.fill(page + 1, at, at + PAGE_BYTES);
      if (kind === 'first') bytes[at] = 1;
      if (kind === 'middle') bytes[at + 2049] = 1;
      if (kind === 'last') bytes[at + PAGE_BYTES - 1] = 1;
    }
    return bytes;
  });

const isZeroNaively = (bytes: Uint8Array, page: number): boolean =>
  bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES).every((byte) => byte === 0);

const sourceOf = (region: Uint8Array): PageSource => ({
  read: (into, at) => into.set(region.subarray(at, at + into.length)),
});

const sinkOf = (region: Uint8Array): RegionSink => ({
  pageCount: region.length / PAGE_BYTES,
  write: (bytes, at) => region.set(bytes, at),
});

/** Feeds `plaintext` to a placer cut at `cuts`; what it placed. */
function place(placer: Placer, plaintext: Uint8Array, cuts: readonly number[], fresh = false) {
  placer.begin(plaintext.length, fresh);
  const ends = [...new Set(cuts.map((cut) => cut % plaintext.length))].toSorted((a, b) => a - b);
  let at = 0;
  for (const end of [...ends, plaintext.length]) {
    placer.push(plaintext.subarray(at, end));
    at = end;
  }
  return placer.end();
}

void test('pages sent in batches, split anywhere, are the same pages again', async () => {
  fc.assert(
    fc.property(
      memory,
      fc.array(fc.boolean(), { minLength: PAGES, maxLength: PAGES }),
      fc.array(fc.nat()),
      fc.boolean(),
      (source, flags, cuts, fresh) => {
        const before = fresh ? 0 : 0xee;
        const destination = new Uint8Array(source.length).fill(before);
        const placer = new Placer([sinkOf(destination)], ALL);
        const ranges = bitmapOf(flags).runs();
        const counts = { pages: 0, zeroPages: 0 };
        const dataBytesMax = 3 * PAGE_BYTES;
        const batcher = new Batcher(0, sourceOf(source), ALL, dataBytesMax);
        for (const batch of batcher.batchesOf(ranges)) {
          const plaintext = Buffer.concat(piecesOf(batch));
          const placed = place(placer, plaintext, cuts, fresh);
          if (placed.pages !== batch.pages) throw new Error('pages');
          counts.pages += placed.pages;
          counts.zeroPages += placed.zeroPages;
          if (plaintext.length > dataBytesMax + 4 + 16 * BATCH_RUNS_MAX) throw new Error('large');
        }
        const sent = flags.flatMap((flag, page) => (flag ? [page] : []));
        const zero = sent.filter((page) => isZeroNaively(source, page));
        if (counts.pages !== sent.length || counts.zeroPages !== zero.length)
          throw new Error('sum');
        for (let page = 0; page < PAGES; page += 1) {
          const at = page * PAGE_BYTES;
          const expected = flags[page]
            ? source.subarray(at, at + PAGE_BYTES)
            : new Uint8Array(PAGE_BYTES).fill(before);
          const actual = destination.subarray(at, at + PAGE_BYTES);
          if (Buffer.compare(expected, actual) !== 0) throw new Error(`page ${page}`);
        }
      },
    ),
  );
});

const REGION_PAGES = [100, 7];
const run: fc.Arbitrary<Run> = fc
  .tuple(fc.constantFrom(0, 1), fc.constantFrom<EncodingName[]>('zero', 'raw'), fc.nat(), fc.nat())
  .map(([region, encoding, a, b]) => {
    const pages = REGION_PAGES[region] ?? 0;
    const firstPage = a % pages;
    const pageCount = 1 + (b % (pages - firstPage));
    const dataBytes = encoding === 'raw' ? pageCount * PAGE_BYTES : 0;
    return { region, encoding, firstPage, pageCount, dataBytes };
  });

const hex = (value: number, width: number): string => value.toString(16).padStart(width * 2, '0');

/** The table by the letter of its layout. */
function encodeNaively(runs: readonly Run[]): Buffer {
  const table = runs.map(
    ({ region, encoding, firstPage, pageCount }) =>
      hex(region, 2) +
      (encoding === 'zero' ? '01' : '02') +
      '00' +
      hex(firstPage, 4) +
      hex(pageCount, 4) +
      hex(encoding === 'raw' ? pageCount * 4096 : 0, 4),
  );
  return Buffer.from(hex(runs.length, 4) + table.join(''), 'hex');
}

const dataBytes = (runs: readonly Run[]): number =>
  runs.reduce(
    (sum, { encoding, pageCount }) => sum + (encoding === 'raw' ? pageCount * 4096 : 0),
    0,
  );

void test('a table is as the naive encoder makes it, and decodes to the same runs', async () => {
  fc.assert(
    fc.property(fc.array(run, { minLength: 1, maxLength: 20 }), (runs) => {
      const table = encodeTable(runs);
      if (!encodeNaively(runs).equals(table)) throw new Error('bytes');
      const recordBytes = table.length + dataBytes(runs);
      if (tableBytes(table, recordBytes) !== table.length) throw new Error('length');
      const decoded = decodeTable(table, recordBytes, termsOf(REGION_PAGES));
      if (JSON.stringify(decoded) !== JSON.stringify(runs)) throw new Error('runs');
    }),
  );
});

/** Whether placing was refused with the one code that is allowed. */
function isRefused(work: () => unknown): boolean {
  try {
    work();
    return false;
  } catch (thrown) {
    if (thrown instanceof MigError && thrown.code === 'RECORD_MALFORMED') return true;
    throw thrown;
  }
}

void test('a mutated batch is RECORD_MALFORMED, or changes nothing outside its regions', async () => {
  fc.assert(
    fc.property(
      fc.array(run, { minLength: 1, maxLength: 5 }),
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 }),
      fc.integer({ min: -20, max: 20 }),
      fc.array(fc.nat()),
      (runs, changes, longer, cuts) => {
        const table = encodeTable(runs);
        const size = Math.max(1, table.length + dataBytes(runs) + longer);
        const plaintext = Buffer.alloc(size, 0xaa);
        plaintext.set(table.subarray(0, size));
        for (const [at, value] of changes) plaintext[at % Math.min(table.length, size)] = value;
        // The regions lie in one buffer with guards between and around them.
        const whole = new Uint8Array((1 + 100 + 1 + 7 + 1) * PAGE_BYTES).fill(0x55);
        const region0 = whole.subarray(PAGE_BYTES, 101 * PAGE_BYTES);
        const region1 = whole.subarray(102 * PAGE_BYTES, 109 * PAGE_BYTES);
        const placer = new Placer([sinkOf(region0), sinkOf(region1)], ALL);
        if (isRefused(() => place(placer, plaintext, cuts))) {
          const untouched = whole.every((byte) => byte === 0x55);
          if (!untouched) throw new Error('placed something of a batch that was refused');
        }
        for (const guard of [0, 101, 109]) {
          const at = guard * PAGE_BYTES;
          if (whole.subarray(at, at + PAGE_BYTES).some((b) => b !== 0x55)) throw new Error('guard');
        }
      },
    ),
    { numRuns: 300 },
  );
});

const zeroRun = (pageCount: number): Run => ({
  region: 0,
  encoding: 'zero',
  firstPage: 0,
  pageCount,
  dataBytes: 0,
});

void test('a batch at its bounds, and one past them', async (t) => {
  const malformed = { code: 'RECORD_MALFORMED' };
  const most = encodeNaively(Array.from({ length: BATCH_RUNS_MAX }, () => zeroRun(1)));
  t.equal(decodeTable(most, most.length, termsOf([8])).length, BATCH_RUNS_MAX);
  const more = encodeNaively(Array.from({ length: BATCH_RUNS_MAX + 1 }, () => zeroRun(1)));
  t.throws(() => tableBytes(more, more.length), malformed);
  t.throws(() => tableBytes(Buffer.alloc(4), 4), malformed, 'no runs');
  t.throws(() => tableBytes(most, most.length - 1), malformed, 'a table that does not fit');
  const region = [BATCH_PAGES_MAX * 2];
  const wide = encodeNaively([zeroRun(BATCH_PAGES_MAX)]);
  t.equal(decodeTable(wide, wide.length, termsOf(region)).length, 1);
  const wider = encodeNaively([zeroRun(BATCH_PAGES_MAX), zeroRun(1)]);
  t.throws(() => decodeTable(wider, wider.length, termsOf(region)), malformed, 'pages');
  t.throws(
    () => decodeTable(wide, wide.length, termsOf([BATCH_PAGES_MAX - 1])),
    malformed,
    'out of range',
  );
  t.throws(() => decodeTable(wide, wide.length, termsOf([])), malformed, 'no such region');
  t.throws(
    () => decodeTable(wide, wide.length + 1, termsOf(region)),
    malformed,
    'more data than runs',
  );
  t.throws(() => new Placer([sinkOf(new Uint8Array(PAGE_BYTES))], ALL).begin(3, false), malformed);
});

const batches = (bytes: Uint8Array) =>
  [
    ...new Batcher(0, sourceOf(bytes), ALL).batchesOf([
      { first: 0, count: bytes.length / PAGE_BYTES },
    ]),
  ].map(({ pages, zeroPages }) => [pages, zeroPages]);

void test('a batch holds at most its bound of data, of runs and of pages', async (t) => {
  const limitPages = BATCH_DATA_BYTES_MAX / PAGE_BYTES;
  const full = new Uint8Array((limitPages + 1) * PAGE_BYTES).fill(1);
  t.same(batches(full.subarray(PAGE_BYTES)), [[limitPages, 0]]);
  t.same(batches(full), [
    [limitPages, 0],
    [1, 0],
  ]);
  const alternating = new Uint8Array(2 * limitPages * PAGE_BYTES);
  for (let page = 0; page < 2 * limitPages; page += 2) alternating[page * PAGE_BYTES] = 1;
  // Zero pages before others take up room, which is not read again to be filled.
  t.same(batches(alternating), [
    [limitPages + 1, limitPages / 2],
    [limitPages - 1, limitPages / 2],
  ]);
  const zero = new Uint8Array((BATCH_PAGES_MAX + 1) * PAGE_BYTES);
  t.same(batches(zero), [
    [BATCH_PAGES_MAX, BATCH_PAGES_MAX],
    [1, 1],
  ]);
});
