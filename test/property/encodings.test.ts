/** Pages packed and placed again are the same pages; what was tampered with is refused within bounds. */
import { randomFillSync } from 'node:crypto';
import { zstdCompressSync } from 'node:zlib';
import * as fc from 'fast-check';
import { test } from 'tap';
import {
  BATCH_RUNS_MAX,
  FRAME_OVERHEAD_BYTES_MAX,
  FRAME_PAGES_MAX,
} from '../../src/base/limits.ts';
import { PAGE_BYTES } from '../../src/base/units.ts';
import { encodeTable, type Run } from '../../src/pages/batch.ts';
import { Batcher, piecesOf } from '../../src/pages/batcher.ts';
import { countRuns, NO_COUNTS } from '../../src/pages/encodings/counts.ts';
import { expand, frameOf } from '../../src/pages/encodings/frame.ts';
import { SentContents } from '../../src/pages/encodings/sent-contents.ts';
import { SentVersions } from '../../src/pages/encodings/sent-versions.ts';
import { LATE, Packer } from '../../src/pages/packer.ts';
import { Placer, type RegionSink } from '../../src/pages/placer.ts';
import { MigError } from '../../src/protocol/error.ts';
import { ENCODING_NAMES, type EncodingName } from '../../src/protocol/options.ts';

const PAGES = 24;
const ALL: ReadonlySet<EncodingName> = new Set(ENCODING_NAMES);
const MALFORMED = { code: 'RECORD_MALFORMED' };

/** What a guest does to a page between two rounds. */
type Write = 'nothing' | 'a word' | 'zeros' | 'noise' | 'text' | 'common';
const WRITES: readonly Write[] = ['nothing', 'a word', 'zeros', 'noise', 'text', 'common'];

function write(page: Uint8Array, kind: Write, salt: number): void {
  if (kind === 'a word') page[(salt * 97) % PAGE_BYTES] = salt % 256;
  else if (kind === 'zeros') page.fill(0);
  else if (kind === 'noise') randomFillSync(page);
  else if (kind === 'text')
    page.set(Buffer.from(`line ${salt} `.repeat(PAGE_BYTES)).subarray(0, PAGE_BYTES));
  else if (kind === 'common') page.fill(0xc3);
}

const pageOf = (memory: Uint8Array, page: number): Uint8Array =>
  memory.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);

const readable = (memory: Uint8Array): RegionSink => ({
  pageCount: memory.length / PAGE_BYTES,
  write: (bytes, at) => memory.set(bytes, at),
  read: (into, at) => into.set(memory.subarray(at, at + into.length)),
});

function place(placer: Placer, plaintext: Uint8Array, cut = plaintext.length, isFresh = false) {
  placer.begin(plaintext.length, isFresh);
  placer.push(plaintext.subarray(0, cut % (plaintext.length + 1)));
  placer.push(plaintext.subarray(cut % (plaintext.length + 1)));
  return placer.end();
}

const rounds = fc.array(
  fc.record({
    writes: fc.array(fc.tuple(fc.nat({ max: PAGES - 1 }), fc.constantFrom(...WRITES)), {
      maxLength: 2 * PAGES,
    }),
    packs: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
    cut: fc.nat(),
  }),
  { minLength: 1, maxLength: 5 },
);
const encodings = fc
  .subarray([...ENCODING_NAMES])
  .map((names) => new Set([...names, 'raw' as const]));

void test('memory arrives whole over rounds, whatever is packed, agreed on and kept', async () => {
  fc.assert(
    fc.property(rounds, encodings, fc.nat({ max: 8 }), (played, agreed, kept) => {
      const source = new Uint8Array(PAGES * PAGE_BYTES);
      const destination = new Uint8Array(source.length);
      const packer = new Packer(agreed, kept * PAGE_BYTES);
      const read = (into: Uint8Array, at: number) =>
        into.set(source.subarray(at, at + into.length));
      const batcher = new Batcher(0, { read }, agreed, 7 * PAGE_BYTES);
      const placer = new Placer([readable(destination)], agreed);
      for (const [n, { writes, packs, cut }] of played.entries()) {
        for (const [page, kind] of writes) write(pageOf(source, page), kind, page + n);
        const dirty =
          n === 0 ? [...Array(PAGES).keys()] : [...new Set(writes.map(([page]) => page))];
        packer.beginRound(n);
        let batches = 0;
        const ranges = dirty.toSorted((a, b) => a - b).map((first) => ({ first, count: 1 }));
        for (const batch of batcher.batchesOf(ranges)) {
          const packs4 = packs[batches % packs.length] ?? false;
          batches += 1;
          const sent = packs4 ? packer.pack(batch) : packer.plain(batch);
          if (sent.runs.some(({ encoding }) => !agreed.has(encoding)))
            throw new Error('not agreed');
          const plaintext = Buffer.concat(piecesOf(sent));
          const placed = place(placer, plaintext, cut, n === 0);
          if (placed.pages !== batch.pages || placed.zeroPages !== batch.zeroPages)
            throw new Error('count');
          const counted = Object.values(countRuns(NO_COUNTS, sent.runs));
          const bytes = counted.reduce((sum, each) => sum + each.bytes, 0);
          if (bytes !== plaintext.length - 4) throw new Error('bytes');
        }
        if (Buffer.compare(source, destination) !== 0) throw new Error(`round ${n}`);
      }
    }),
    { numRuns: 150 },
  );
});

/** Pages 0 to 7 as `kinds`, packed in `round` after a round 0 of noise; and by what. */
function packed(kinds: readonly Write[], round: number) {
  const memory = new Uint8Array(kinds.length * PAGE_BYTES);
  const read = (into: Uint8Array, at: number) => into.set(memory.subarray(at, at + into.length));
  const packer = new Packer(ALL, 64 * PAGE_BYTES);
  const batch = () => {
    const [one] = new Batcher(0, { read }, ALL).batchesOf([{ first: 0, count: kinds.length }]);
    if (one === undefined) throw new Error('no batch');
    return one;
  };
  randomFillSync(memory);
  for (let n = 1; n < round; n += 1) {
    packer.beginRound(n);
    packer.pack(batch());
  }
  for (const [page, kind] of kinds.entries()) write(pageOf(memory, page), kind, page);
  packer.beginRound(round);
  const sent = packer.pack(batch());
  return {
    sent,
    counts: countRuns(NO_COUNTS, sent.runs),
    plaintext: Buffer.concat(piecesOf(sent)),
  };
}

void test('each page is sent by what takes the least', async (t) => {
  const kinds = ['a word', 'zeros', 'text', 'common', 'common', 'noise', 'a word'] as const;
  const { counts } = packed(kinds, 2);
  t.match(counts, {
    zero: { pages: 1 },
    delta: { pages: 2 },
    duplicate: { pages: 1 },
    zstd: { pages: 3 },
  });
  t.equal(packed(['text', 'text', 'text'], 2).counts.zstd.pages, 3);
  t.equal(
    packed(['noise', 'noise'], 2).counts.raw.pages,
    2,
    'what does not compress stays as it is',
  );
  t.equal(packed(['a word'], 1).counts.delta.pages, 0, 'nothing of it was sent before');
  const late = packed(['a word', 'common', 'common', 'text'], LATE).counts;
  t.equal(late.delta.pages + late.duplicate.pages, 0, 'what a guest has there is its own');
});

void test('a mutated batch is refused, or changes nothing outside its region', async () => {
  const { plaintext } = packed(['a word', 'text', 'common', 'common', 'zeros', 'text'], 2);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 }),
      fc.nat(),
      (changes, cut) => {
        const mutated = Buffer.from(plaintext);
        for (const [at, value] of changes) mutated[at % mutated.length] = value;
        const whole = new Uint8Array(8 * PAGE_BYTES).fill(0x55);
        const placer = new Placer([readable(whole.subarray(PAGE_BYTES, 7 * PAGE_BYTES))], ALL);
        try {
          place(placer, mutated, cut);
        } catch (thrown) {
          if (!(thrown instanceof MigError && thrown.code === 'RECORD_MALFORMED')) throw thrown;
        }
        for (const guard of [0, 7]) {
          if (pageOf(whole, guard).some((byte) => byte !== 0x55)) throw new Error('guard');
        }
      },
    ),
    { numRuns: 300 },
  );
});

const run = (encoding: EncodingName, dataBytes: number, pageCount = 1, firstPage = 0): Run => ({
  region: 0,
  encoding,
  firstPage,
  pageCount,
  dataBytes,
});

function placing(runs: readonly Run[], data: Uint8Array, agreed = ALL, region?: RegionSink) {
  const memory = new Uint8Array(2 * FRAME_PAGES_MAX * PAGE_BYTES);
  const plaintext = Buffer.concat([encodeTable(runs), data]);
  return () => place(new Placer([region ?? readable(memory)], agreed), plaintext);
}

const frame = (pages: number) => frameOf(new Uint8Array(pages * PAGE_BYTES));

void test('what a frame says of itself is not believed', async (t) => {
  const zeros = Buffer.alloc(64 * 1024 * 1024);
  const bomb = zstdCompressSync(zeros);
  for (const encoding of ['zstd', 'delta'] as const) {
    const with_ = (data: Uint8Array, pages: number) =>
      placing([run(encoding, data.length, pages)], data);
    t.doesNotThrow(with_(frame(3), 3));
    t.throws(with_(bomb, FRAME_PAGES_MAX), MALFORMED, 'a bomb');
    t.throws(with_(frame(3), 2), MALFORMED, 'a page too many');
    t.throws(with_(frame(3), 4), MALFORMED, 'a page too few');
    t.throws(with_(frame(3).subarray(0, -1), 3), MALFORMED, 'cut');
    t.throws(with_(Buffer.alloc(9, 0xaa), 1), MALFORMED, 'no frame');
    t.throws(with_(frameOf(new Uint8Array(0)), 1), MALFORMED, 'of nothing');
    t.doesNotThrow(with_(frame(FRAME_PAGES_MAX), FRAME_PAGES_MAX));
    t.throws(with_(frame(FRAME_PAGES_MAX + 1), FRAME_PAGES_MAX + 1), MALFORMED, 'too many pages');
    t.throws(placing([run(encoding, 0)], Buffer.alloc(0)), MALFORMED, 'the data of nobody');
    const long = Buffer.alloc(PAGE_BYTES + FRAME_OVERHEAD_BYTES_MAX + 1);
    t.throws(with_(long, 1), MALFORMED, 'longer than its pages');
    const apart = [run(encoding, frame(2).length), run('zero', 0), run(encoding, 0)];
    t.throws(placing(apart, frame(2)), MALFORMED, 'shared across another');
    const sharing = [run(encoding, frame(2).length), run(encoding, 0, 1, 9)];
    t.doesNotThrow(placing(sharing, frame(2)));
    const other = encoding === 'zstd' ? 'delta' : 'zstd';
    t.throws(placing([run(encoding, frame(2).length), run(other, 0)], frame(2)), MALFORMED);
  }
  const noise = randomFillSync(new Uint8Array(FRAME_PAGES_MAX * PAGE_BYTES));
  t.ok(Buffer.from(noise).equals(expand(frameOf(noise), noise.length)), 'what does not compress');
  t.ok(frameOf(noise).length <= noise.length + FRAME_OVERHEAD_BYTES_MAX);
  const wide = zstdCompressSync(noise, { params: { 101: 27 } });
  t.doesNotThrow(() => expand(wide, noise.length), 'no more room is given than it needs');
});

const sources = (...pages: number[]): Buffer => {
  const data = Buffer.alloc(4 * pages.length);
  for (const [index, page] of pages.entries()) data.writeUInt32BE(page, 4 * index);
  return data;
};

void test('a page is the same as a lower one, or refused', async (t) => {
  t.doesNotThrow(placing([run('duplicate', 8, 2, 5)], sources(0, 5)));
  t.throws(placing([run('duplicate', 4, 1, 5)], sources(5)), MALFORMED, 'as itself');
  t.throws(placing([run('duplicate', 4, 1, 5)], sources(6)), MALFORMED, 'as a later one');
  t.throws(placing([run('duplicate', 4, 1, 5)], sources(0xffffffff)), MALFORMED, 'out of range');
  t.throws(placing([run('duplicate', 4, 2, 5)], sources(1)), MALFORMED, 'too few');
  t.throws(placing([run('duplicate', 8, 1, 5)], sources(1, 1)), MALFORMED, 'too many');
});

void test('nothing that was not agreed on, nor that rests on what is a guest’s', async (t) => {
  const one = frame(1);
  const agreed = new Set<EncodingName>(['raw']);
  t.throws(placing([run('zero', 0)], Buffer.alloc(0), agreed), MALFORMED);
  t.throws(placing([run('zstd', one.length)], one, agreed), MALFORMED);
  const late = { pageCount: 9, write: () => undefined };
  t.throws(placing([run('delta', one.length)], one, ALL, late), MALFORMED);
  t.throws(placing([run('duplicate', 4, 1, 5)], sources(1), ALL, late), MALFORMED);
  t.doesNotThrow(placing([run('zstd', one.length)], one, ALL, late));
});

void test('what packing would give too many runs stays as it is', async (t) => {
  const pages = 2 * BATCH_RUNS_MAX;
  const memory = new Uint8Array(pages * PAGE_BYTES);
  const read = (into: Uint8Array, at: number) => into.set(memory.subarray(at, at + into.length));
  // Every second of some pages is the same as the one before: two runs of one.
  for (let page = 0; page < 120; page += 1) {
    memory.fill(1 + (page % 2 === 1 ? page : 0), page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
  }
  const ranges = [{ first: 0, count: 120 }];
  for (let page = 121; page < pages; page += 2) ranges.push({ first: page, count: 1 });
  const packer = new Packer(ALL, 0);
  const [batch] = new Batcher(0, { read }, ALL).batchesOf(ranges);
  if (batch === undefined) throw new Error('no batch');
  t.equal(packer.pack(batch), batch);
});

const filled = (byte: number) => new Uint8Array(PAGE_BYTES).fill(byte);
const words = (value: number) => new Uint32Array(PAGE_BYTES / 4).fill(value);

void test('contents and versions are kept within their bounds', async (t) => {
  const contents = new SentContents(2);
  contents.beginBatch();
  t.equal(contents.find(filled(1), 10), undefined);
  t.equal(contents.find(filled(2), 11), undefined);
  t.equal(contents.find(filled(1), 12), 10);
  t.equal(contents.find(filled(3), 13), undefined, 'the one that was not looked for goes');
  t.equal(contents.find(filled(2), 14), undefined);
  t.equal(contents.find(filled(3), 15), 13);
  contents.clear();
  t.equal(contents.find(filled(3), 16), undefined);

  const into = words(0);
  const versions = new SentVersions(2 * PAGE_BYTES);
  versions.keep(1, words(1), 1);
  versions.keep(2, words(2), 1);
  versions.keep(3, words(3), 2);
  t.notOk(versions.change(3, words(3), into), 'those of the last round stay');
  t.ok(versions.change(1, words(1), into));
  versions.keep(1, words(1), 3);
  versions.keep(3, words(3), 3);
  t.ok(versions.change(3, words(3), into), 'one that was not sent since makes room');
  t.notOk(versions.change(2, words(2), into));
  t.notOk(versions.change(3, words(4), into), 'all of it has changed');
  versions.drop(0, 1000);
  t.notOk(versions.change(3, words(3), into));
});
