/** Where a transfer stands when it breaks, and that it goes on from there: nothing missing, nothing twice. */
import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { test } from 'tap';
import { BATCH_DATA_BYTES_MAX } from '../../../../src/base/limits.ts';
import { MiB, PAGE_BYTES } from '../../../../src/base/units.ts';
import { Opener } from '../../../../src/crypto/opener.ts';
import { Sealer } from '../../../../src/crypto/sealer.ts';
import { SUITES } from '../../../../src/crypto/suites.ts';
import type { Origin } from '../../../../src/migration/data-plane/messages.ts';
import { openReceiver, type DataReceiver } from '../../../../src/migration/data-plane/receiver.ts';
import { Receiving } from '../../../../src/migration/data-plane/receiving.ts';
import { RecordReader } from '../../../../src/migration/data-plane/record-reader.ts';
import { openSender, type DataSender } from '../../../../src/migration/data-plane/sender.ts';
import { Sending } from '../../../../src/migration/data-plane/sending.ts';
import { Threads } from '../../../../src/migration/data-plane/threads.ts';
import {
  dropAccepted,
  keepUnacknowledged,
} from '../../../../src/migration/data-plane/unacknowledged.ts';
import { Bitmap } from '../../../../src/pages/bitmap.ts';
import { makeHosts, MIGRATION_ID, realClock, sessionSecret } from './fixtures.ts';
import { TestMemory } from './memories.ts';
import { ENCODING_NAMES } from '../../../../src/protocol/options.ts';
import type { Way } from '../../../../src/pages/encoding-choice.ts';

const SUITE = 'aes-256-gcm+hmac-sha256';

// Any byte: one process, no sockets.

const PAGES = 1000;
const RAM_BYTES = PAGES * PAGE_BYTES;
/** In no page of the source: what was never written at the destination. */
const UNTOUCHED = 0xee;

/** Round `n` as it leaves one channel: its bytes, and the pages of each record but the last. */
async function sentBy(
  from: TestMemory,
  share: { readonly index: number; readonly of: number },
  n: number,
  way: Way = 'plain',
): Promise<{ readonly sending: Sending; readonly bytes: Buffer }> {
  const records: Buffer[] = [];
  const keys = sessionSecret().channelKeys(share.index, 'to-destination');
  const sending = new Sending({
    sealer: new Sealer({ suite: SUITES[SUITE], keys, channel: share.index }),
    ram: from.file(),
    exchange: from,
    share,
    encodings: ENCODING_NAMES,
    choice: { next: () => way, sent: () => undefined, forget: () => undefined },
    versionBytesMax: 0,
    pacer: { take: async () => undefined },
    clock: realClock,
    writer: { write: async (record) => void records.push(Buffer.concat(record)) },
    report: () => undefined,
  });
  await sending.round(n, n === 0 ? 'all' : 'dirty');
  return { sending, bytes: Buffer.concat(records) };
}

/** What a channel of the destination makes of the bytes that reached it, put into `ram`. */
function received(ram: Uint8Array, channel: number, bytes: Uint8Array, n: number): Receiving {
  const keys = sessionSecret().channelKeys(channel, 'to-destination');
  const opener = new Opener({ suite: SUITES[SUITE], keys, channel });
  const receiving = new Receiving({
    channel,
    encodings: ENCODING_NAMES,
    opener,
    region: {
      pageCount: PAGES,
      write: (data, at) => ram.set(data, at),
      read: (into, at) => into.set(ram.subarray(at, at + into.length)),
    },
    state: new Uint8Array(0),
    firstRound: n,
    report: () => undefined,
  });
  new RecordReader(opener, receiving).push(bytes);
  return receiving;
}

const page = (ram: Uint8Array, n: number): Uint8Array =>
  ram.subarray(n * PAGE_BYTES, (n + 1) * PAGE_BYTES);

const isFullOf = (ram: Uint8Array, n: number, byte: number): boolean =>
  Buffer.compare(page(ram, n), Buffer.alloc(PAGE_BYTES, byte)) === 0;

for (const [channels, round, way] of [1, 4].flatMap((count) => [
  [count, 0, 'plain'] as const,
  [count, 1, 'plain'] as const,
  [count, 1, 'packed'] as const,
])) {
  void test(`${channels} channel(s) cut at any byte of round ${round}, ${way}`, async () => {
    using from = new TestMemory(RAM_BYTES);
    // Runs of full pages and of zero pages, of all lengths.
    for (let n = 0; n < PAGES; n += 1) {
      if (n % 97 > 20 && n % 7 > 1) page(from.ram, n).fill((n % 200) + 1);
      if (n % 11 < 7 || n > 800) from.dirty.add(n);
    }
    const toSend = new Set(
      Array.from({ length: PAGES }, (_, n) => n).filter((n) => round === 0 || from.dirty.has(n)),
    );
    const shares = Array.from({ length: channels }, (_, index) => ({ index, of: channels }));
    const sent = await Promise.all(shares.map((share) => sentBy(from, share, round, way)));
    const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), {
      minLength: channels,
      maxLength: channels,
    });
    fc.assert(
      fc.property(cuts, (at) => {
        const ram = new Uint8Array(RAM_BYTES).fill(UNTOUCHED);
        const accepted = sent.map(({ bytes }, channel) => {
          const arrived = bytes.subarray(0, Math.round(bytes.length * (at[channel] ?? 0)));
          const extent = received(ram, channel, arrived, round).acceptedOf(round);
          if (extent === null) throw new Error('no word');
          if (extent.bytes > arrived.length) throw new Error('more than arrived');
          return extent.pages;
        });
        for (const [channel, { sending }] of sent.entries()) {
          if (sending.sentOf(round).pages < (accepted[channel] ?? 0)) throw new Error('unsent');
        }
        const bits = new Uint8Array(Bitmap.bytesFor(PAGES));
        const next = new Bitmap(bits, PAGES);
        if (round > 0) for (const n of toSend) next.add(n);
        dropAccepted(next, round === 0 ? 'all' : 'dirty', accepted);
        let left = 0;
        for (let n = 0; n < PAGES; n += 1) {
          const isHeld = Buffer.compare(page(ram, n), page(from.ram, n)) === 0;
          // Zero pages of round 0 are not written: that memory is zero.
          const isSkipped = round === 0 && isFullOf(from.ram, n, 0);
          if (next.has(n)) left += 1;
          if (next.has(n) && !isFullOf(ram, n, UNTOUCHED))
            throw new Error(`${n} touched and not accepted`);
          if (!next.has(n) && toSend.has(n) && !isHeld && !isSkipped) {
            throw new Error(`${n} neither held nor sent again`);
          }
          if (next.has(n) && !toSend.has(n)) throw new Error(`${n} was not of this round`);
        }
        if (left !== toSend.size - accepted.reduce((sum, pages) => sum + pages, 0)) {
          throw new Error('a page that is held is sent again');
        }
      }),
      {
        numRuns: 60,
        examples: [[Array(channels).fill(0)], [Array(channels).fill(1)]] as [number[]][],
      },
    );
  });
}

void test('a channel that has ended the round says all of it, one that is further says nothing', async (t) => {
  using from = new TestMemory(RAM_BYTES);
  from.scribble(3);
  const { sending, bytes } = await sentBy(from, { index: 0, of: 1 }, 1);
  const receiving = received(new Uint8Array(RAM_BYTES), 0, bytes, 1);
  t.match(receiving.acceptedOf(1), { pages: 1, zeroPages: 0, bytes: bytes.length });
  t.same(receiving.acceptedOf(1), sending.sentOf(1));
  t.match(receiving.acceptedOf(2), { pages: 0, bytes: 0 });
  t.equal(receiving.acceptedOf(0), null);
  t.equal(receiving.acceptedOf(3), null);
  t.match(sending.sentOf(2), { pages: 0, bytes: 0 });
});

// Real channels.

const { a, b } = makeHosts('a', 'b');
const threads = new Threads(4);

interface Session {
  readonly from: TestMemory;
  readonly to: TestMemory;
  readonly channels: number;
  readonly salt?: number;
  readonly origin?: Origin;
  readonly onProgress?: () => void;
}

async function open({ from, to, channels, salt, origin, onProgress }: Session): Promise<{
  readonly sender: DataSender;
  readonly receiver: DataReceiver;
}> {
  using secret = sessionSecret(salt);
  const common = {
    migrationId: MIGRATION_ID,
    suite: SUITE,
    form: 'tls',
    encodings: ENCODING_NAMES,
    engine: 'native',
    secret,
    clock: realClock,
    threads,
    origin,
  } as const;
  const receiver = await openReceiver({
    ...common,
    address: '127.0.0.1',
    ports: undefined,
    peer: a,
    identity: b.identity,
    channels,
    memory: to.place,
  });
  const { name, fingerprint256 } = b;
  const sender = await openSender({
    ...common,
    peer: { host: '127.0.0.1', ports: receiver.ports, name, fingerprint256 },
    identity: a.identity,
    memory: from.place,
    ...(onProgress === undefined ? {} : { onProgress }),
  });
  await receiver.joined;
  return { sender, receiver };
}

const lineage = createHash('sha384').update('a point').digest();
const pagesOf = (extents: readonly { readonly pages: number }[]): number[] =>
  extents.map(({ pages }) => pages);
const sum = (counts: readonly number[]): number => counts.reduce((total, n) => total + n, 0);

for (const channels of [1, 4]) {
  void test(`a round that broke goes on in another session, over ${channels} channel(s)`, async (t) => {
    const ramBytes = 32 * MiB;
    const pages = ramBytes / PAGE_BYTES;
    using from = new TestMemory(ramBytes);
    using to = new TestMemory(ramBytes);
    for (let n = 0; n < pages; n += 1) if (n % 3 > 0) from.scribble(n);
    from.clearDirty();

    const half = Promise.withResolvers<void>();
    const first = await open({ from, to, channels, onProgress: () => half.resolve() });
    first.sender.setBandwidthLimit(64 * MiB);
    first.sender.sendRound(0, 'all').catch(() => undefined);
    await half.promise;
    const sent = await first.sender.reckon(0);
    const accepted = pagesOf(await first.receiver.reckon(0));
    t.ok(sum(accepted) < pages, 'it broke before its end');
    t.ok(
      accepted.every((count, channel) => count <= (sent[channel]?.pages ?? 0)),
      'no more was accepted than was sent',
    );

    keepUnacknowledged(from.place, 'all', accepted);
    const left = from.dirty.count();
    t.equal(left, pages - sum(accepted), 'what is held is not sent again');
    // Meanwhile the guest wrote: a held page, which is zero now, and one that was not sent yet.
    from.blank(1);
    from.scribble(pages - 1);
    const origin = { round: 1, lineage };
    const second = await open({ from, to, channels, salt: 1, origin });
    const [again, arrived] = await Promise.all([
      second.sender.sendRound(1, 'dirty'),
      second.receiver.roundReceived(1),
    ]);
    t.ok(again.pages <= left + 2);
    t.same(arrived.tag, again.tag);
    t.equal(to.digest(), from.digest());
    from.clearDirty();
    const [final, finalReceived] = await Promise.all([
      second.sender.sendFinal(2, { stateBytes: 10 }),
      second.receiver.finalReceived(),
    ]);
    t.same(finalReceived.transcriptDigest, final.transcriptDigest);
    await Promise.all([second.sender.close(), second.receiver.close()]);
  });
}

void test('sides that disagree on where they went on never agree on a round', async (t) => {
  using from = new TestMemory(MiB);
  using to = new TestMemory(MiB);
  const tags = new Set<string>();
  for (const origin of [
    { round: 1, lineage },
    { round: 1, lineage: createHash('sha384').update('another point').digest() },
  ]) {
    const { sender, receiver } = await open({ from, to, channels: 2, origin });
    const [{ tag }] = await Promise.all([sender.sendRound(1, 'dirty'), receiver.roundReceived(1)]);
    tags.add(tag.toString('hex'));
    await Promise.all([sender.close(), receiver.close()]);
  }
  t.equal(tags.size, 2);
});

void test('a session that goes on takes no state before a round of its own', async (t) => {
  using from = new TestMemory(MiB);
  const keys = sessionSecret().channelKeys(0, 'to-destination');
  const sealer = new Sealer({ suite: SUITES[SUITE], keys, channel: 0 });
  const bytes = Buffer.concat(sealer.seal('state', [from.state.subarray(0, 10)]));
  t.throws(() => received(from.ram, 0, bytes, 1), { code: 'RECORD_ORDER' });
});

void test('who was closed, or has sent the state, has no word any more: CHANNEL_LOST', async (t) => {
  using from = new TestMemory(MiB);
  using to = new TestMemory(MiB);
  const { sender, receiver } = await open({ from, to, channels: 1 });
  await Promise.all([sender.sendRound(0, 'dirty'), receiver.roundReceived(0)]);
  await Promise.all([sender.sendFinal(1, { stateBytes: 1 }), receiver.finalReceived()]);
  await t.rejects(receiver.reckon(1), { code: 'CHANNEL_LOST' });
  await sender.close();
  await t.rejects(sender.reckon(1), { code: 'CHANNEL_LOST' });
});

void test('a record that breaks off leaves nothing of it in memory', async (t) => {
  using from = new TestMemory(MiB);
  for (let n = 0; n < MiB / PAGE_BYTES; n += 1) from.scribble(n);
  const { bytes } = await sentBy(from, { index: 0, of: 1 }, 0);
  const ram = new Uint8Array(RAM_BYTES).fill(UNTOUCHED);
  // All of the first record but the last byte of its tag.
  const recordBytes = 16 + bytes.readUInt32BE(4) + SUITES[SUITE].tagBytes;
  const receiving = received(ram, 0, bytes.subarray(0, recordBytes - 1), 0);
  t.match(receiving.acceptedOf(0), { pages: 0, bytes: 0 });
  t.ok(ram.every((byte) => byte === UNTOUCHED));
  const whole = received(ram, 0, bytes.subarray(0, recordBytes), 0);
  t.equal(whole.acceptedOf(0)?.pages, BATCH_DATA_BYTES_MAX / PAGE_BYTES);
});
