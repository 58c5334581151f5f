/** The channel on which pages are asked for: what each side may say, and that a fault is answered once. */
import { test } from 'tap';
import { DEMAND_PAGES_MAX } from '../../../../src/base/limits.ts';
import { PAGE_BYTES } from '../../../../src/base/units.ts';
import { Opener } from '../../../../src/crypto/opener.ts';
import { Sealer } from '../../../../src/crypto/sealer.ts';
import { SUITES } from '../../../../src/crypto/suites.ts';
import { FaultHandler } from '../../../../src/migration/data-plane/fault-handler.ts';
import { FaultServer } from '../../../../src/migration/data-plane/fault-server.ts';
import { Latencies } from '../../../../src/migration/data-plane/latencies.ts';
import { Receiving } from '../../../../src/migration/data-plane/receiving.ts';
import {
  RecordReader,
  type RecordSink,
} from '../../../../src/migration/data-plane/record-reader.ts';
import { Batcher, piecesOf } from '../../../../src/pages/batcher.ts';
import { Bitmap } from '../../../../src/pages/bitmap.ts';
import { LatePages } from '../../../../src/pages/late-pages.ts';
import { PushOrder } from '../../../../src/pages/push-order.ts';
import { SharedBitmap } from '../../../../src/pages/shared-bitmap.ts';
import { encodeDemand } from '../../../../src/protocol/demand.ts';
import type { RecordKind } from '../../../../src/protocol/record.ts';
import { encodeRoundEnd } from '../../../../src/protocol/round-end.ts';
import { sessionSecret } from './fixtures.ts';
import { ENCODING_NAMES } from '../../../../src/protocol/options.ts';

const SUITE = SUITES['aes-256-gcm+hmac-sha256'];
const CHANNEL = 1;
const PAGES = 128;
type Direction = 'to-destination' | 'to-source';

const sealer = (direction: Direction, channel = CHANNEL) =>
  new Sealer({ suite: SUITE, keys: sessionSecret().channelKeys(channel, direction), channel });
const opener = (direction: Direction, channel = CHANNEL) =>
  new Opener({ suite: SUITE, keys: sessionSecret().channelKeys(channel, direction), channel });

/** Says records to a sink, as they would come. */
function speaker(direction: Direction, sink: RecordSink, channel = CHANNEL) {
  const own = sealer(direction, channel);
  const reader = new RecordReader(opener(direction, channel), sink);
  return (kind: RecordKind, ...pieces: Uint8Array[]) =>
    reader.push(Buffer.concat(own.seal(kind, pieces)));
}

function bitmap(pages: Iterable<number>) {
  const bytes = new Uint8Array(PAGES / 8);
  const plain = new Bitmap(bytes, PAGES);
  for (const page of pages) plain.add(page);
  return { bytes, shared: new SharedBitmap(bytes, PAGES) };
}

const ALL = Array.from({ length: PAGES }, (_, page) => page);

/** Each page is full of its number. */
const ram = {
  pageCount: PAGES,
  read: (into: Uint8Array, at: number) => {
    for (let from = 0; from < into.length; from += PAGE_BYTES) {
      into.subarray(from, from + PAGE_BYTES).fill((at + from) / PAGE_BYTES + 1);
    }
  },
};

function server(absent?: Uint8Array) {
  const sent: Buffer[] = [];
  let heard = 0;
  const fault = new FaultServer({
    sealer: sealer('to-destination'),
    writer: { write: async (record) => void sent.push(Buffer.concat(record)) },
    encodings: ENCODING_NAMES,
    ram,
    order: new PushOrder(bitmap(ALL).shared, new Int32Array(1), 0),
    absent: absent && { bitmap: absent, heard: () => (heard += 1) },
  });
  return { fault, sent, heardTimes: () => heard, say: speaker('to-source', fault) };
}

void test('the source answers demands, each page that is waited for first', async (t) => {
  const { fault, sent, say } = server();
  say('demand', encodeDemand([7, 100]));
  say('demand', encodeDemand([7]));
  await fault.answered;
  t.equal(sent.length, 3, 'again for who asks again');
  t.equal(fault.extent.pages, 8 + 8 + 1);
});

void test('the source takes nothing else', async (t) => {
  const malformed: readonly Uint8Array[] = [
    new Uint8Array(0),
    new Uint8Array(5),
    new Uint8Array(4 * (DEMAND_PAGES_MAX + 1)),
    encodeDemand([PAGES]),
  ];
  for (const bytes of malformed) {
    t.throws(() => server().say('demand', bytes), { code: 'RECORD_MALFORMED' });
  }
  for (const kind of ['pages', 'state', 'roundEnd', 'end', 'absent'] as const) {
    t.throws(() => server().say(kind, new Uint8Array(16)), { code: 'RECORD_ORDER' }, kind);
  }
});

void test('in a later session the source hears first what is lacking, all of it', async (t) => {
  const known = new Uint8Array(PAGES / 8).fill(0xff);
  const { say, heardTimes } = server(known);
  t.throws(() => server(known).say('demand', encodeDemand([1])), { code: 'RECORD_ORDER' });
  t.throws(() => server(known).say('absent', new Uint8Array(17)), { code: 'RECORD_MALFORMED' });
  const { bytes } = bitmap([1, 70]);
  say('absent', bytes.subarray(0, 9));
  t.equal(heardTimes(), 0);
  say('absent', bytes.subarray(9));
  t.equal(heardTimes(), 1);
  t.same(known, bytes);
  t.throws(() => say('absent', bytes), { code: 'RECORD_ORDER' }, 'once');
});

/** A guest whose threads touch pages, and what the destination makes of it. */
function guest(absentPages: readonly number[]) {
  const [absent, open] = [bitmap(absentPages), bitmap(absentPages)];
  const memory = new Map<number, number>();
  const counters = new Int32Array([absentPages.length]);
  const region = {
    pageCount: PAGES,
    write: (bytes: Uint8Array, at: number) => void memory.set(at / PAGE_BYTES, bytes[0] ?? 0),
  };
  const parts = { absent: absent.shared, open: open.shared, counters, counter: 0 };
  const touched: number[] = [];
  const resolved: (readonly [first: number, count: number])[] = [];
  const demands: Buffer[] = [];
  let now = 0;
  const handler = new FaultHandler({
    faults: {
      take: () => touched.splice(0),
      resolve: (first, count) => void resolved.push([first, count]),
    },
    sealer: sealer('to-source'),
    writer: { write: async (record) => void demands.push(Buffer.concat(record)) },
    late: new LatePages(region, parts, () => undefined),
    encodings: ENCODING_NAMES,
    absent: absent.shared,
    clock: { now: () => now },
  });
  return {
    handler,
    memory,
    resolved,
    demands,
    /** Another thread's way to the same memory. */
    pushed: new LatePages(region, parts, () => undefined),
    touch: async (...pages: number[]) => {
      touched.push(...pages);
      await handler.take();
    },
    pass: (ms: number) => (now += ms),
    say: speaker('to-destination', handler),
  };
}

const batch = (first: number, count: number): readonly Uint8Array[] => {
  const [one] = new Batcher(0, ram, new Set(ENCODING_NAMES)).batchesOf([{ first, count }]);
  return one === undefined ? [] : piecesOf(one);
};

void test('a page that is there is mapped, one that is not is asked for once', async (t) => {
  const { handler, touch, resolved, demands, say, pass, memory } = guest([10, 11, 40]);
  await touch(5);
  t.same(resolved, [[5, 5]], 'with what follows it, up to what is absent');
  await touch(10, 10);
  await touch(10);
  t.equal(demands.length, 1);
  t.ok(handler.isWaiting);
  pass(3);
  say('pages', ...batch(10, 2));
  t.same(resolved.at(-1), [10, 30]);
  t.equal(memory.get(10), 11);
  t.notOk(handler.isWaiting);
  t.same(handler.counts, { network: 1, minor: 1, latencyMs: { mean: 3, p99: 3, max: 3 } });
});

void test('a page that another channel brought meanwhile is mapped, and not placed again', async (t) => {
  const { handler, touch, resolved, pushed, say, memory } = guest([10]);
  await touch(10);
  pushed.write(new Uint8Array(PAGE_BYTES).fill(77), 10 * PAGE_BYTES);
  handler.settle();
  t.same(resolved, [[10, 64]]);
  // The guest has written to it by now.
  say('pages', ...batch(10, 1));
  t.equal(memory.get(10), 77);
});

void test('the destination takes nothing but pages for an answer', async (t) => {
  for (const kind of ['demand', 'state', 'roundEnd', 'end', 'absent'] as const) {
    t.throws(() => guest([1]).say(kind, new Uint8Array(16)), { code: 'RECORD_ORDER' }, kind);
  }
});

/** A receiver of the channel that carries the state. */
function receiver(late: 'none' | 'may follow' | 'only') {
  const placed: number[] = [];
  const region = {
    pageCount: PAGES,
    write: (_: Uint8Array, at: number) => void placed.push(at / PAGE_BYTES),
  };
  const absent = new Uint8Array(PAGES / 8);
  const sink = new Receiving({
    channel: 0,
    encodings: ENCODING_NAMES,
    opener: opener('to-destination', 0),
    region: { pageCount: PAGES, write: () => undefined },
    late: late === 'none' ? undefined : { region, absent, isAll: late === 'only' },
    state: new Uint8Array(100),
    firstRound: 0,
    report: () => undefined,
  });
  return { sink, placed, absent, say: speaker('to-destination', sink, 0) };
}

const ROUND_END = encodeRoundEnd({ round: 0, pages: 0, zeroPages: 0 });

void test('what is absent comes whole, before the state, and where it may', async (t) => {
  const { sink, absent, placed, say } = receiver('may follow');
  const { bytes } = bitmap([3, 99]);
  say('roundEnd', ROUND_END);
  say('absent', bytes.subarray(0, 5));
  t.throws(() => say('state', new Uint8Array(10)), { code: 'RECORD_ORDER' }, 'half of it');

  const whole = receiver('may follow');
  whole.say('roundEnd', ROUND_END);
  whole.say('absent', bytes.subarray(0, 5));
  whole.say('absent', bytes.subarray(5));
  whole.say('state', new Uint8Array(10));
  whole.say('end');
  t.same(whole.absent, bytes);
  t.ok(whole.sink.isEnded);
  t.notOk(whole.sink.isOver, 'the pages follow');
  whole.say('pages', ...batch(3, 1));
  t.same(whole.placed, [3]);
  t.same([absent[0], placed, sink.isEnded], [8, [], false]);

  for (const [what, late] of [
    ['before the round has ended', 'may follow'],
    ['where nothing may be left', 'none'],
  ] as const) {
    const one = receiver(late);
    if (late === 'none') one.say('roundEnd', ROUND_END);
    t.throws(() => one.say('absent', bytes), { code: 'RECORD_ORDER' }, what);
  }
});

void test('after the end nothing comes but what was absent, and in a later session nothing else', async (t) => {
  for (const kind of ['state', 'roundEnd', 'end', 'absent', 'demand'] as const) {
    const bytes = kind === 'end' ? new Uint8Array(0) : new Uint8Array(ROUND_END.length);
    t.throws(() => receiver('only').say(kind, bytes), { code: 'RECORD_ORDER' }, kind);
  }
  const { say, placed } = receiver('only');
  say('pages', ...batch(5, 1));
  t.same(placed, [5]);
});

void test('times are summed up in little memory', async (t) => {
  const latencies = new Latencies();
  t.same(latencies.summary, { mean: 0, p99: 0, max: 0 });
  for (let i = 0; i < 990; i += 1) latencies.add(1);
  for (let i = 0; i < 10; i += 1) latencies.add(50);
  const { mean, p99, max } = latencies.summary;
  t.ok(Math.abs(mean - 1.49) < 1e-9);
  t.ok(p99 >= 1 && p99 <= 1.2, `p99 ${p99}`);
  t.equal(max, 50);
  latencies.add(60);
  t.ok(latencies.summary.p99 >= 50);
});
