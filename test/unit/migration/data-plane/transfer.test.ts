/** Whole transfers through worker threads and real sockets, and how they end. */
import { createHash, randomBytes, randomFillSync } from 'node:crypto';
import { test } from 'tap';
import { MiB, PAGE_BYTES } from '../../../../src/base/units.ts';
import { combineTags } from '../../../../src/crypto/transcript.ts';
import { openReceiver, type DataReceiver } from '../../../../src/migration/data-plane/receiver.ts';
import {
  openSender,
  type DataSender,
  type Progress,
} from '../../../../src/migration/data-plane/sender.ts';
import { Threads } from '../../../../src/migration/data-plane/threads.ts';
import {
  ENCODING_NAMES,
  ALL_SUITE_NAMES,
  type SuiteName,
} from '../../../../src/protocol/options.ts';
import {
  makeHosts,
  MIGRATION_ID,
  PAIRINGS,
  realClock,
  sessionSecret,
  titleOf,
  type Pairing,
} from './fixtures.ts';
import { TestMemory } from './memories.ts';

const { a, b } = makeHosts('a', 'b');
const threads = new Threads(4);

const NATIVE: Pairing = { form: 'tls', source: 'native', destination: 'native' };

interface Pair extends AsyncDisposable {
  readonly sender: DataSender;
  readonly receiver: DataReceiver;
}

async function openPair(input: {
  readonly from: TestMemory;
  readonly to: TestMemory;
  readonly channels?: number;
  readonly suite?: SuiteName;
  readonly pairing?: Pairing;
  readonly onProgress?: (progress: Progress) => void;
}): Promise<Pair> {
  const { from, to, channels = 1, suite = 'aes-256-gcm+hmac-sha256', onProgress } = input;
  const { form, source, destination } = input.pairing ?? NATIVE;
  using secret = sessionSecret();
  const common = {
    migrationId: MIGRATION_ID,
    suite,
    form,
    encodings: ENCODING_NAMES,
    secret,
    clock: realClock,
    threads,
  };
  const receiver = await openReceiver({
    ...common,
    address: '127.0.0.1',
    ports: undefined,
    peer: a,
    identity: b.identity,
    channels,
    memory: to.place,
    engine: destination,
  });
  const { name, fingerprint256 } = b;
  const sender = await openSender({
    ...common,
    peer: { host: '127.0.0.1', ports: receiver.ports, name, fingerprint256 },
    identity: a.identity,
    memory: from.place,
    engine: source,
    ...(onProgress === undefined ? {} : { onProgress }),
  });
  await receiver.joined;
  const dispose = async () => {
    await Promise.all([sender.close(), receiver.close()]);
  };
  return { sender, receiver, [Symbol.asyncDispose]: dispose };
}

/** SHA-256 over the SHA-256 of each 4 MiB, as memory-digest.ts says. */
function treeDigest(ram: Uint8Array): string {
  const root = createHash('sha256');
  for (let at = 0; at < ram.length; at += 4 * MiB) {
    root.update(
      createHash('sha256')
        .update(ram.subarray(at, at + 4 * MiB))
        .digest(),
    );
  }
  return root.digest('hex');
}

const RAM_BYTES = 16 * MiB;
const PAGES = RAM_BYTES / PAGE_BYTES;

for (const [pairing, channels] of PAIRINGS.flatMap((each) => [
  [each, 1] as const,
  [each, 3] as const,
])) {
  void test(`all kinds of pages: ${titleOf(pairing)}, ${channels} channel(s)`, async (t) => {
    using from = new TestMemory(RAM_BYTES);
    using to = new TestMemory(RAM_BYTES);
    for (let page = 0; page < PAGES; page += 1) {
      if (page % 5 < 3 || (page > 1000 && page < 3000)) from.scribble(page);
    }
    const zeroPages = Array.from({ length: PAGES }, (_, page) => page).filter(
      (page) => page % 5 >= 3 && !(page > 1000 && page < 3000),
    ).length;
    const told: Progress[] = [];
    await using pair = await openPair({
      from,
      to,
      pairing,
      channels,
      onProgress: (p) => told.push(p),
    });
    const { sender, receiver } = pair;

    const [sent, received] = await Promise.all([
      sender.sendRound(0, 'all'),
      receiver.roundReceived(0),
    ]);
    t.match(sent, { n: 0, pages: PAGES, zeroPages });
    t.same(
      { ...received, bytesSent: received.bytes },
      { ...sent, bytes: sent.bytesSent },
      'both sides count the same and have the same tag',
    );
    t.ok(sent.bytesSent > (PAGES - zeroPages) * PAGE_BYTES && sent.bytesSent < RAM_BYTES);
    t.ok(told.length > 0 && told.every(({ pages }) => pages <= PAGES));
    t.equal(to.digest(), from.digest());

    from.clearDirty();
    for (let page = 3; page < PAGES; page += 37) from.scribble(page);
    for (let page = 10; page < PAGES; page += 41) from.blank(page);
    const dirty = from.dirty.count();
    const [again] = await Promise.all([
      sender.sendRound(1, 'dirty'),
      receiver.roundReceived(1).then((round) => t.equal(round.pages, dirty)),
    ]);
    t.equal(again.pages, dirty);
    t.ok(again.zeroPages > 0, 'zero pages overwrite');
    t.equal(to.digest(), from.digest());
    t.notSame(again.tag, sent.tag);

    from.clearDirty();
    from.scribble(PAGES - 1);
    const state = randomBytes(5000);
    from.state.set(state);
    const [finalSent, finalReceived] = await Promise.all([
      sender.sendFinal(2, { stateBytes: state.length }),
      receiver.finalReceived(),
    ]);
    t.match(finalSent, { n: 2, pages: 1, zeroPages: 0 });
    t.equal(finalReceived.stateBytes, state.length);
    t.same(finalReceived.transcriptDigest, finalSent.transcriptDigest);
    t.equal(finalSent.transcriptDigest.length, combineTags('final', []).length);
    t.same(Buffer.from(to.state.subarray(0, state.length)), state);
    t.equal(to.digest(), from.digest());
    const digests = await Promise.all([sender.digestMemory(), receiver.digestMemory()]);
    t.same(
      digests.map((digest) => digest.toString('hex')),
      [treeDigest(from.ram), treeDigest(from.ram)],
    );
  });
}

/** Both hosts of one engine. */
const LIKES = PAIRINGS.filter(({ source, destination }) => source === destination);

for (const [suite, pairing] of ALL_SUITE_NAMES.flatMap((s) =>
  LIKES.map((each) => [s, each] as const),
)) {
  void test(`${suite} moves memory: ${titleOf(pairing)}`, async (t) => {
    using from = new TestMemory(4 * MiB);
    using to = new TestMemory(4 * MiB);
    for (let page = 0; page < 500; page += 1) from.scribble(page);
    await using pair = await openPair({ from, to, pairing, suite });
    await Promise.all([pair.sender.sendRound(0, 'all'), pair.receiver.roundReceived(0)]);
    t.equal(to.digest(), from.digest());
  });
}

for (const pairing of LIKES) {
  void test(`an empty round, and nothing to hear of a closed pair: ${titleOf(pairing)}`, async (t) => {
    using from = new TestMemory(MiB);
    using to = new TestMemory(MiB);
    const pair = await openPair({ from, to, pairing, channels: 2 });
    const failures: unknown[] = [];
    void pair.sender.failed.then((error) => failures.push(error));
    void pair.receiver.failed.then((error) => failures.push(error));
    const [sent] = await Promise.all([
      pair.sender.sendRound(0, 'dirty'),
      pair.receiver.roundReceived(0),
    ]);
    t.match(sent, { pages: 0, zeroPages: 0 });
    await Promise.all([pair.sender.sendFinal(1, { stateBytes: 1 }), pair.receiver.finalReceived()]);
    await pair.sender.close();
    await pair.sender.close();
    await t.rejects(pair.sender.sendRound(2, 'all'), { code: 'CHANNEL_LOST' });
    await pair.receiver.close();
    t.same(failures, []);
  });

  void test(`a sender that goes away before the end: CHANNEL_LOST at the receiver: ${titleOf(pairing)}`, async (t) => {
    using from = new TestMemory(MiB);
    using to = new TestMemory(MiB);
    await using pair = await openPair({ from, to, pairing, channels: 2 });
    const { sender, receiver } = pair;
    await Promise.all([sender.sendRound(0, 'all'), receiver.roundReceived(0)]);
    const waiting = receiver.finalReceived();
    waiting.catch(() => undefined);
    await sender.close();
    await t.rejects(waiting, { code: 'CHANNEL_LOST' });
    t.match(await receiver.failed, { code: 'CHANNEL_LOST' });
  });

  void test(`a receiver that goes away: CHANNEL_LOST at the sender: ${titleOf(pairing)}`, async (t) => {
    using from = new TestMemory(64 * MiB);
    using to = new TestMemory(64 * MiB);
    for (let page = 0; page < 64 * 256; page += 1) from.ram[page * PAGE_BYTES] = 1;
    await using pair = await openPair({ from, to, pairing });
    const round = pair.sender.sendRound(0, 'all');
    round.catch(() => undefined);
    await pair.receiver.close();
    await t.rejects(round, { code: 'CHANNEL_LOST' });
  });

  void test(`a bandwidth limit is kept, and lifting it frees who waits: ${titleOf(pairing)}`, async (t) => {
    using from = new TestMemory(8 * MiB);
    using to = new TestMemory(8 * MiB);
    // No encoding makes less of it.
    randomFillSync(from.ram);
    await using pair = await openPair({ from, to, pairing, channels: 2 });
    const { sender, receiver } = pair;
    sender.setBandwidthLimit(32 * MiB);
    const startedAt = performance.now();
    await Promise.all([sender.sendRound(0, 'all'), receiver.roundReceived(0)]);
    const elapsedMs = performance.now() - startedAt;
    // 8 MiB at 32 MiB/s, less one record a channel of debt and the burst.
    t.ok(elapsedMs > 180, `${elapsedMs} ms`);
    sender.setBandwidthLimit(1);
    const stuck = sender.sendRound(1, 'all');
    const done = receiver.roundReceived(1);
    sender.setBandwidthLimit(undefined);
    t.same((await stuck).tag, (await done).tag);
  });
}

void test('memory that is not there or of another size: NATIVE_FAILED', async (t) => {
  using to = new TestMemory(MiB);
  using secret = sessionSecret();
  const open = (memory: TestMemory['place']) =>
    openReceiver({
      migrationId: MIGRATION_ID,
      address: '127.0.0.1',
      ports: undefined,
      peer: a,
      identity: b.identity,
      suite: 'aes-256-gcm+hmac-sha256',
      form: 'tls',
      encodings: ENCODING_NAMES,
      engine: 'native',
      channels: 1,
      secret,
      memory,
      clock: realClock,
      threads,
    });
  await t.rejects(open({ ...to.place, ramPath: `${to.place.ramPath}.none` }), {
    code: 'NATIVE_FAILED',
  });
  await t.rejects(open({ ...to.place, ramBytes: 2 * MiB }), { code: 'NATIVE_FAILED' });
});

void test('a receiver that nobody listens at: PEER_UNREACHABLE, and nothing is left', async (t) => {
  using from = new TestMemory(MiB);
  using to = new TestMemory(MiB);
  const pair = await openPair({ from, to });
  await pair[Symbol.asyncDispose]();
  using secret = sessionSecret();
  const { ports } = pair.receiver;
  const { name, fingerprint256 } = b;
  const opening = openSender({
    migrationId: MIGRATION_ID,
    peer: { host: '127.0.0.1', ports, name, fingerprint256 },
    identity: a.identity,
    suite: 'aes-256-gcm+hmac-sha256',
    form: 'tls',
    encodings: ENCODING_NAMES,
    engine: 'native',
    secret,
    memory: from.place,
    clock: realClock,
    threads,
  });
  await t.rejects(opening, { code: 'PEER_UNREACHABLE' });
});
