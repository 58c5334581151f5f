/** Memory of all kinds of content moves whole over a slow channel, by what each page takes the least. */
import { createHash } from 'node:crypto';
import { test } from 'tap';
import { MiB, PAGE_BYTES } from '../../../../src/base/units.ts';
import type { Origin } from '../../../../src/migration/data-plane/messages.ts';
import { openReceiver } from '../../../../src/migration/data-plane/receiver.ts';
import { openSender } from '../../../../src/migration/data-plane/sender.ts';
import { Threads } from '../../../../src/migration/data-plane/threads.ts';
import { keepUnacknowledged } from '../../../../src/migration/data-plane/unacknowledged.ts';
import { NO_COUNTS } from '../../../../src/pages/encodings/counts.ts';
import { ENCODING_NAMES, type EncodingName } from '../../../../src/protocol/options.ts';
import type { Engine } from '../../../../src/transport/connection.ts';
import { makeHosts, MIGRATION_ID, realClock, sessionSecret } from './fixtures.ts';
import { TestMemory } from './memories.ts';

const { a, b } = makeHosts('a', 'b');
const threads = new Threads(4);

const RAM_BYTES = 8 * MiB;
const PAGES = RAM_BYTES / PAGE_BYTES;
/** So slow that whatever a processor does beside it takes no time. */
const SLOW_BPS = 16 * MiB;

const ROUNDS_MAX = 30;

interface Session {
  readonly engine: Engine;
  readonly channels: number;
  readonly from: TestMemory;
  readonly to: TestMemory;
  readonly encodings?: readonly EncodingName[];
  readonly salt?: number;
  readonly origin?: Origin;
}

async function open({ from, to, salt, channels, encodings = ENCODING_NAMES, ...rest }: Session) {
  using secret = sessionSecret(salt);
  const common = {
    migrationId: MIGRATION_ID,
    suite: 'aes-256-gcm+hmac-sha256',
    form: 'tls',
    encodings,
    secret,
    clock: realClock,
    threads,
    ...rest,
  } as const;
  const address = { address: '127.0.0.1', ports: undefined };
  const receiving = { peer: a, identity: b.identity, channels, memory: to.place };
  const receiver = await openReceiver({ ...common, ...address, ...receiving });
  const { name, fingerprint256 } = b;
  const peer = { host: '127.0.0.1', ports: receiver.ports, name, fingerprint256 };
  const sender = await openSender({ ...common, peer, identity: a.identity, memory: from.place });
  await receiver.joined;
  sender.setBandwidthLimit(SLOW_BPS);
  return { sender, receiver };
}

/** Noise, text, and what many pages have; zero pages among them. */
function fill(memory: TestMemory): void {
  for (let n = 0; n < PAGES; n += 1) {
    const page = memory.ram.subarray(n * PAGE_BYTES, (n + 1) * PAGE_BYTES);
    if (n % 8 < 3) memory.scribble(n);
    else if (n % 8 < 5) page.set(Buffer.from(`page ${n} `.repeat(1000)).subarray(0, PAGE_BYTES));
    else if (n % 8 < 7) page.fill(1 + (n % 3));
  }
  memory.clearDirty();
}

/** A word in each of the pages that a guest writes again and again. */
function touch(memory: TestMemory, round: number): void {
  memory.clearDirty();
  for (let n = 0; n < PAGES / 2; n += 1) {
    memory.ram[n * PAGE_BYTES + 100 + round] = round;
    memory.dirty.add(n);
  }
}

for (const [engine, channels] of [
  ['native', 1],
  ['native', 2],
  ['portable', 2],
] as const) {
  void test(`over rounds and a session that broke: ${engine}, ${channels} channel(s)`, async (t) => {
    using from = new TestMemory(RAM_BYTES);
    using to = new TestMemory(RAM_BYTES);
    fill(from);
    const { sender, receiver } = await open({ engine, channels, from, to });
    const pass = async (n: number, session = { sender, receiver }) => {
      const [sent, received] = await Promise.all([
        session.sender.sendRound(n, n === 0 ? 'all' : 'dirty'),
        session.receiver.roundReceived(n),
      ]);
      t.equal(to.digest(), from.digest(), `round ${n}`);
      t.same(received.counts, sent.counts, 'both sides count the same');
      return sent.counts;
    };
    const { zero, zstd, duplicate } = await pass(0);
    t.ok(zero.pages > 0 && zstd.pages > 0 && duplicate.pages > 0);
    t.ok(zstd.bytes < zstd.pages * PAGE_BYTES && duplicate.bytes < duplicate.pages * PAGE_BYTES);
    let n = 1;
    let known = NO_COUNTS.delta;
    // When is up to what else this machine does.
    for (; n < ROUNDS_MAX && known.pages === 0; n += 1) {
      touch(from, n);
      known = (await pass(n)).delta;
    }
    t.ok(known.pages > 0, 'what was sent in a round before');
    t.ok(known.bytes < (known.pages * PAGE_BYTES) / 10);

    touch(from, n);
    sender.sendRound(n, 'dirty').catch(() => undefined);
    await sender.reckon(n);
    const accepted = (await receiver.reckon(n)).map(({ pages }) => pages);
    keepUnacknowledged(from.place, 'dirty', accepted);
    const origin = { round: n + 1, lineage: createHash('sha384').update('a point').digest() };
    const second = await open({ engine, channels, from, to, salt: 1, origin });
    const { delta: unknown } = await pass(n + 1, second);
    t.equal(unknown.pages, 0, 'nothing is known any more of what was sent');
    touch(from, n + 2);
    await pass(n + 2, second);
    await Promise.all([second.sender.close(), second.receiver.close()]);
  });
}

void test('nothing is sent in a way that was not agreed on', async (t) => {
  using from = new TestMemory(RAM_BYTES);
  using to = new TestMemory(RAM_BYTES);
  fill(from);
  const { sender, receiver } = await open({
    engine: 'native',
    channels: 1,
    from,
    to,
    encodings: ['raw'],
  });
  const [{ counts }] = await Promise.all([sender.sendRound(0, 'all'), receiver.roundReceived(0)]);
  t.equal(to.digest(), from.digest());
  t.equal(counts.raw.pages, PAGES);
  await Promise.all([sender.close(), receiver.close()]);
});
