/** Pages that come while their guest runs: each once, whoever brings it, in whatever order and pieces. */
import * as fc from 'fast-check';
import { test } from 'tap';
import { DEMAND_PAGES_MAX } from '../../src/base/limits.ts';
import { PAGE_BYTES } from '../../src/base/units.ts';
import { Bitmap } from '../../src/pages/bitmap.ts';
import { LatePages } from '../../src/pages/late-pages.ts';
import { PushOrder, WINDOW_PAGES_MAX, WINDOW_PAGES_MIN } from '../../src/pages/push-order.ts';
import { SharedBitmap } from '../../src/pages/shared-bitmap.ts';
import { decodeDemand, encodeDemand } from '../../src/protocol/demand.ts';

const PAGES = 200;

/** A bitmap of whole words with these pages in it. */
function bitmapOf(pages: readonly number[], pageCount = PAGES) {
  const bytes = new Uint8Array(Math.ceil(pageCount / 32) * 4);
  const plain = new Bitmap(bytes, pageCount);
  for (const page of pages) plain.add(page);
  return { bytes, plain, shared: new SharedBitmap(bytes, pageCount) };
}

const somePages = fc.uniqueArray(fc.nat(PAGES - 1), { maxLength: PAGES });
const pagesOf = (ranges: Iterable<{ first: number; count: number }>): number[] =>
  [...ranges].flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i));

void test('a page is taken once, alone or with its word', async (t) => {
  const property = fc.property(somePages, fc.array(fc.nat(PAGES - 1)), (pages, taken) => {
    const { shared } = bitmapOf(pages);
    const left = new Set(pages);
    for (const page of taken) {
      if (shared.has(page) !== left.has(page)) throw new Error('it says otherwise');
      if (shared.take(page) !== left.delete(page)) throw new Error('taken twice, or not at all');
    }
    const rest = Array.from({ length: shared.wordCount }, (_, word) => shared.takeWord(word));
    t.same(
      pagesOf(rest.flat()),
      [...left].toSorted((a, b) => a - b),
    );
  });
  t.doesNotThrow(() => fc.assert(property));
});

void test('pushed or answered, every open page leaves, and none is pushed twice', async (t) => {
  const property = fc.property(
    somePages,
    fc.array(fc.oneof(fc.constant(null), fc.nat(PAGES - 1))),
    fc.nat(3),
    (pages, turns, others) => {
      const { shared, bytes } = bitmapOf(pages);
      const counters = new Int32Array([others * 7]);
      const pushers = Array.from({ length: 2 }, () => new PushOrder(shared, counters, 0).runs());
      const server = new PushOrder(shared, counters, 0);
      const sent: number[] = [];
      for (const [n, fault] of turns.entries()) {
        if (fault === null) {
          const { value } = pushers[n % 2]?.next() ?? {};
          sent.push(...(value === undefined ? [] : pagesOf([value])));
          continue;
        }
        const answer = pagesOf(server.answer(fault));
        if (answer[0] !== fault) throw new Error('what is waited for comes first');
        if (answer.length > WINDOW_PAGES_MAX) throw new Error('too much comes along');
        sent.push(...answer);
      }
      for (const pusher of pushers) sent.push(...pagesOf(pusher));
      // Whoever waits for a page gets it, whatever is on its way already.
      const unasked = sent.filter((page) => !turns.includes(page));
      if (new Set(unasked).size !== unasked.length) throw new Error('sent twice');
      if (!pages.every((page) => sent.includes(page))) throw new Error('never sent');
      if (bytes.some((byte) => byte !== 0)) throw new Error('still open');
    },
  );
  t.doesNotThrow(() => fc.assert(property));
});

void test('what follows a fault in order comes in wider windows, and the push goes on behind it', async (t) => {
  const { shared } = bitmapOf(Array.from({ length: PAGES }, (_, page) => page));
  const counters = new Int32Array(1);
  const order = new PushOrder(shared, counters, 0);
  t.equal(pagesOf(order.answer(64)).length, WINDOW_PAGES_MIN);
  t.equal(pagesOf(order.answer(72)).length, 2 * WINDOW_PAGES_MIN);
  t.equal(pagesOf(order.answer(0)).length, WINDOW_PAGES_MIN, 'elsewhere it begins anew');
  order.answer(96);
  t.match(order.runs().next().value, { first: 104 });
});

/** What is placed, in memory that counts how often each page was written. */
function region(pageCount: number) {
  const memory = Buffer.alloc(pageCount * PAGE_BYTES);
  const written = new Map<number, number>();
  return {
    memory,
    written,
    sink: {
      pageCount,
      write: (bytes: Uint8Array, at: number) => {
        memory.set(bytes, at);
        const end = Math.ceil((at + bytes.length) / PAGE_BYTES);
        for (let page = Math.floor(at / PAGE_BYTES); page < end; page += 1) {
          if (at <= page * PAGE_BYTES) written.set(page, (written.get(page) ?? 0) + 1);
        }
      },
    },
  };
}

const SMALL = 24;

void test('a page is placed once, only where it was absent, and counts when all of it is there', async (t) => {
  const property = fc.property(
    fc.uniqueArray(fc.nat(SMALL - 1), { maxLength: SMALL }),
    fc.array(
      fc.record({
        first: fc.nat(SMALL - 1),
        count: fc.integer({ min: 1, max: 8 }),
        cuts: fc.array(fc.nat(8 * PAGE_BYTES), { maxLength: 3 }),
        by: fc.nat(1),
      }),
    ),
    (missing, deliveries) => {
      const absent = bitmapOf(missing, SMALL);
      const open = bitmapOf(missing, SMALL);
      const counters = new Int32Array([missing.length]);
      const { memory, written, sink } = region(SMALL);
      let wholes = 0;
      const parts = { absent: absent.shared, open: open.shared, counters, counter: 0 };
      // Two threads' ways to the same memory.
      const ways = [0, 1].map(() => new LatePages(sink, parts, () => (wholes += 1)));
      for (const { first, count, cuts, by } of deliveries) {
        const end = Math.min(first + count, SMALL);
        const bytes = Buffer.concat(
          Array.from({ length: end - first }, (_, i) => Buffer.alloc(PAGE_BYTES, first + i + 1)),
        );
        const at = [0, ...cuts.filter((cut) => cut < bytes.length), bytes.length];
        const sorted = at.toSorted((a, b) => a - b);
        for (const [n, from] of sorted.entries()) {
          const piece = bytes.subarray(from, sorted[n + 1] ?? from);
          if (piece.length > 0) ways[by]?.write(piece, first * PAGE_BYTES + from);
        }
      }
      const delivered = new Set(
        deliveries.flatMap(({ first, count }) =>
          Array.from({ length: Math.min(count, SMALL - first) }, (_, i) => first + i),
        ),
      );
      for (let page = 0; page < SMALL; page += 1) {
        const isPlaced = missing.includes(page) && delivered.has(page);
        if ((written.get(page) ?? 0) !== (isPlaced ? 1 : 0)) throw new Error(`page ${page}`);
        const isRight = memory[(page + 1) * PAGE_BYTES - 1] === (isPlaced ? page + 1 : 0);
        if (!isRight) throw new Error(`what page ${page} has`);
        if (absent.plain.has(page) !== (missing.includes(page) && !isPlaced)) {
          throw new Error(`whether page ${page} is there`);
        }
      }
      const isWhole = missing.length > 0 && missing.every((page) => delivered.has(page));
      if (wholes !== (isWhole ? 1 : 0)) throw new Error(`said ${wholes} times that it is whole`);
    },
  );
  t.doesNotThrow(() => fc.assert(property, { numRuns: 300 }));
});

void test('a demand survives its way, and none names a page that is not there', async (t) => {
  const demand = fc.array(fc.nat(PAGES - 1), { minLength: 1, maxLength: DEMAND_PAGES_MAX });
  const roundTrip = fc.property(demand, (pages) => {
    t.same(decodeDemand(encodeDemand(pages), PAGES), pages);
  });
  t.doesNotThrow(() => fc.assert(roundTrip));
  for (const bytes of [
    new Uint8Array(0),
    new Uint8Array(3),
    new Uint8Array(4 * DEMAND_PAGES_MAX + 4),
    encodeDemand([PAGES]),
  ]) {
    t.throws(() => decodeDemand(bytes, PAGES), { code: 'RECORD_MALFORMED' });
  }
});
