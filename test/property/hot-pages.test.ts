/**
 * Hot pages left for last: whatever is written, sent, left out, and broken off, a page that was written
 * after it was last sent is owed, and is sent before the end.
 */
import * as fc from 'fast-check';
import { test } from 'tap';
import { dropAccepted } from '../../src/migration/data-plane/unacknowledged.ts';
import { Bitmap } from '../../src/pages/bitmap.ts';
import { HotPages } from '../../src/pages/hot-pages.ts';
import { dirtyRangesOf } from '../../src/pages/share.ts';

const PAGES = 203;
const CHANNELS = 2;

/** What the guest writes between two collections, before pages are sent and after. */
interface Writes {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** A round with up to so many pages left out, of which `share` arrives: all of it, or it breaks. */
interface Round extends Writes {
  readonly leftOutMax: number;
  readonly share: number;
}

/** The source of a migration over a pretend link: what the engine does, by the same parts. */
class Source {
  readonly bytes = new Uint8Array(Bitmap.bytesFor(PAGES));
  readonly bitmap = new Bitmap(this.bytes, PAGES);
  readonly hot = new HotPages();
  /** Each page's version here, at the destination, and pages written since the last collection. */
  readonly here = new Uint32Array(PAGES).fill(1);
  readonly there = new Uint32Array(PAGES).fill(1);
  readonly written = new Set<number>();
  leftOut = 0;

  write(pages: readonly number[]): void {
    for (const page of pages) {
      this.here[page] = (this.here[page] ?? 0) + 1;
      this.written.add(page);
    }
  }

  /** Sends a prefix of each channel's pages; writes during a round come after it was read. */
  send(share: number): number[] {
    return Array.from({ length: CHANNELS }, (_, index) => {
      const pages = [...dirtyRangesOf(this.bitmap, { index, of: CHANNELS })].flatMap(
        ({ first, count }) => Array.from({ length: count }, (__, i) => first + i),
      );
      const sent = pages.slice(0, Math.round(pages.length * share));
      for (const page of sent) this.there[page] = this.here[page] ?? 0;
      return sent.length;
    });
  }

  collect(into: 'replace' | 'add'): void {
    if (into === 'replace') this.bytes.fill(0);
    for (const page of this.written) this.bitmap.add(page);
    this.written.clear();
  }

  takeOut(countMax: number): void {
    this.leftOut += this.hot.takeOut(this.bytes, countMax);
  }

  round({ before, after, leftOutMax: countMax, share }: Round): void {
    this.takeOut(countMax);
    this.write(before);
    const accepted = this.send(share);
    this.write(after);
    if (share === 1) {
      this.collect('replace');
      this.hot.remember(this.bytes);
    } else {
      dropAccepted(this.bitmap, 'dirty', accepted);
      this.collect('add');
      this.hot.forget();
    }
    this.hot.putBack(this.bytes);
  }

  final(): void {
    this.collect('add');
    this.send(1);
  }

  /** Pages that are stale there and that nobody would send. */
  get lost(): number[] {
    return [...this.here.keys()].filter(
      (page) =>
        this.here[page] !== this.there[page] && !this.bitmap.has(page) && !this.written.has(page),
    );
  }
}

/** Some pages nearly always, others now and then. */
const pages = fc
  .tuple(
    fc.subarray(
      Array.from({ length: 20 }, (_, at) => at * 7),
      { minLength: 15 },
    ),
    fc.array(fc.integer({ min: 0, max: PAGES - 1 }), { maxLength: 20 }),
  )
  .map((both) => both.flat());
const leftOutMax = fc.integer({ min: 0, max: 30 });
const share = fc.oneof(
  { weight: 6, arbitrary: fc.constant(1) },
  { weight: 1, arbitrary: fc.double({ min: 0, max: 0.99, noNaN: true }) },
);
const rounds: fc.Arbitrary<Round[]> = fc.array(
  fc.record({ before: pages, after: pages, leftOutMax, share }),
  { maxLength: 30 },
);

void test('every page written after it was last sent is sent before the end', async (t) => {
  let leftOut = 0;
  fc.assert(
    fc.property(rounds, (sequence) => {
      const source = new Source();
      for (const round of sequence) {
        source.round(round);
        if (source.lost.length > 0) throw new Error(`lost ${source.lost.join()}`);
      }
      source.final();
      leftOut += source.leftOut;
      return source.here.every((version, at) => version === source.there[at]);
    }),
    { numRuns: 500 },
  );
  t.ok(leftOut > 1000, `pages were left out indeed (${leftOut})`);
});

const countIn = (bitmap: Uint8Array): number => new Bitmap(bitmap, 64).count();

void test('taking out and putting back only move bits', async () => {
  const bytes = fc.uint8Array({ minLength: 8, maxLength: 8 });
  fc.assert(
    fc.property(fc.array(bytes, { maxLength: 5 }), bytes, leftOutMax, (collections, owed, max) => {
      const hot = new HotPages();
      for (const written of collections) hot.remember(written);
      const before = Uint8Array.from(owed);
      const count = hot.takeOut(owed, max);
      if (count > max || countIn(owed) + count !== countIn(before)) throw new Error('not as many');
      const recent = collections.slice(-3);
      const isHot = (at: number) => recent.every((written) => new Bitmap(written, 64).has(at));
      for (let at = 0; at < 64; at += 1) {
        const isOut = new Bitmap(before, 64).has(at) && !new Bitmap(owed, 64).has(at);
        if (isOut && (recent.length < 3 || !isHot(at))) throw new Error(`${at} was not hot`);
      }
      hot.putBack(owed);
      return Buffer.compare(owed, before) === 0 && hot.leftCount === 0;
    }),
    { numRuns: 500 },
  );
});
