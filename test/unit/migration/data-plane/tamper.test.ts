/**
 * A relay that changes the byte stream of a channel, inside its TLS where it has one: what arrives at
 * a real receiver, of either form and engine, after someone flipped, dropped, swapped, repeated, cut
 * or spliced records. Each has its code, and a stream left alone is accepted.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { test, type Test } from 'tap';
import { MiB, PAGE_BYTES } from '../../../../src/base/units.ts';
import { Sealer } from '../../../../src/crypto/sealer.ts';
import { SUITES } from '../../../../src/crypto/suites.ts';
import { openReceiver, type DataReceiver } from '../../../../src/migration/data-plane/receiver.ts';
import { Sending } from '../../../../src/migration/data-plane/sending.ts';
import { Threads } from '../../../../src/migration/data-plane/threads.ts';
import type { Code } from '../../../../src/protocol/codes.ts';
import type { RecordKind } from '../../../../src/protocol/record.ts';
import { encodeRoundEnd } from '../../../../src/protocol/round-end.ts';
import { connectDataChannel } from '../../../../src/transport/data-channel.ts';
import {
  makeHosts,
  MIGRATION_ID,
  PAIRINGS,
  realClock,
  realRandom,
  sessionSecret,
  titleOf,
  type Pairing,
} from './fixtures.ts';
import { TestMemory } from './memories.ts';
import { ENCODING_NAMES } from '../../../../src/protocol/options.ts';
import { EncodingChoice } from '../../../../src/pages/encoding-choice.ts';

const { a, b } = makeHosts('a', 'b');
const threads = new Threads(2);
const SUITE = 'aes-256-gcm+hmac-sha256';
const RAM_BYTES = MiB;

interface Opened extends AsyncDisposable {
  readonly receiver: DataReceiver;
  readonly socket: Socket;
}

/** A receiver with a joined connection to it, at which records can be written as one likes. */
async function openRelay(to: TestMemory, { form, destination }: Pairing): Promise<Opened> {
  using secret = sessionSecret();
  const receiver = await openReceiver({
    migrationId: MIGRATION_ID,
    address: '127.0.0.1',
    ports: undefined,
    peer: a,
    identity: b.identity,
    suite: SUITE,
    form,
    encodings: ENCODING_NAMES,
    engine: destination,
    channels: 1,
    secret,
    memory: to.place,
    clock: realClock,
    threads,
  });
  const carrier = await connectDataChannel({
    form,
    engine: 'portable',
    host: '127.0.0.1',
    port: receiver.ports[0] ?? 0,
    identity: a.identity,
    expected: b,
    join: {
      migrationId: MIGRATION_ID,
      channel: 0,
      key: secret.channelKeys(0, 'to-destination').join,
    },
    clock: realClock,
    random: realRandom,
    highWaterMark: MiB,
  });
  if (carrier.engine !== 'portable') throw new Error('a socket to write to was asked for');
  const { socket } = carrier;
  socket.on('error', () => undefined);
  await receiver.joined;
  const dispose = async () => {
    socket.destroy();
    await receiver.close();
  };
  return { receiver, socket, [Symbol.asyncDispose]: dispose };
}

const sealerOf = (salt = 0): Sealer =>
  new Sealer({
    suite: SUITES[SUITE],
    keys: sessionSecret(salt).channelKeys(0, 'to-destination'),
    channel: 0,
  });

/** The records of a whole transfer of 1 MiB: pages ×2, round end, page, round end, state, end. */
async function wholeTransfer(salt = 0): Promise<Buffer[]> {
  using from = new TestMemory(RAM_BYTES);
  for (let page = 0; page < RAM_BYTES / PAGE_BYTES; page += 1) from.scribble(page);
  const records: Buffer[] = [];
  const sending = new Sending({
    sealer: sealerOf(salt),
    ram: from.file(),
    exchange: from,
    share: { index: 0, of: 1 },
    encodings: ENCODING_NAMES,
    choice: new EncodingChoice(),
    versionBytesMax: 0,
    pacer: { take: async () => undefined },
    clock: realClock,
    writer: { write: async (record) => void records.push(Buffer.concat(record)) },
    report: () => undefined,
  });
  await sending.round(0, 'all');
  from.clearDirty();
  from.scribble(7);
  from.state.set(randomBytes(100));
  await sending.final(1, 100);
  return records;
}

/** What the receiver says to these bytes; undefined when it accepts a whole transfer. */
async function answerTo(stream: Uint8Array, pairing: Pairing): Promise<Code | undefined> {
  using to = new TestMemory(RAM_BYTES);
  await using opened = await openRelay(to, pairing);
  const { receiver, socket } = opened;
  const accepted = receiver.finalReceived();
  accepted.catch(() => undefined);
  socket.end(stream);
  // Awaited here: what is returned unawaited would be settled after the receiver was closed.
  return await Promise.race([
    receiver.failed.then(({ code }) => code),
    accepted.then(
      () => undefined,
      () => receiver.failed.then(({ code }) => code),
    ),
  ]);
}

const flip = (bytes: Buffer, at: number): Buffer => {
  const flipped = Buffer.from(bytes);
  flipped.writeUInt8(flipped.readUInt8(at) ^ 0x10, at);
  return flipped;
};

const concat = (...parts: Uint8Array[]): Buffer => Buffer.concat(parts);

const changed = async (t: Test, pairing: Pairing) => {
  const records = await wholeTransfer();
  t.equal(records.length, 7);
  const whole = Buffer.concat(records);
  const at = (index: number): Buffer => records[index] ?? Buffer.alloc(0);
  const other = await wholeTransfer(1);
  const [first] = other;
  const cases: Record<string, { stream: Buffer; code: Code | undefined }> = {
    'left alone': { stream: whole, code: undefined },
    'a bit of page data flipped': { stream: flip(whole, 9000), code: 'RECORD_FORGED' },
    'a bit of the table of pages flipped': { stream: flip(whole, 18), code: 'RECORD_FORGED' },
    'a bit of a tag flipped': { stream: flip(whole, at(0).length - 1), code: 'RECORD_FORGED' },
    'a bit of the length flipped': { stream: flip(whole, 4), code: 'RECORD_MALFORMED' },
    'a bit of the sequence flipped': { stream: flip(whole, 15), code: 'RECORD_ORDER' },
    'a bit of the channel flipped': { stream: flip(whole, 3), code: 'RECORD_ORDER' },
    'a bit of the version flipped': { stream: flip(whole, 0), code: 'RECORD_MALFORMED' },
    'the first record dropped': { stream: concat(...records.slice(1)), code: 'RECORD_ORDER' },
    'a record dropped': {
      stream: concat(at(0), ...records.slice(2)),
      code: 'RECORD_ORDER',
    },
    'two records swapped': {
      stream: concat(at(1), at(0), ...records.slice(2)),
      code: 'RECORD_ORDER',
    },
    'a record repeated': {
      stream: concat(at(0), at(0), ...records.slice(1)),
      code: 'RECORD_ORDER',
    },
    'a record of another migration': {
      stream: concat(first ?? at(0), ...records.slice(1)),
      code: 'RECORD_FORGED',
    },
    'a byte inserted': { stream: concat(at(0), Buffer.of(1), at(1)), code: 'RECORD_MALFORMED' },
    'cut within a record': { stream: whole.subarray(0, 100_000), code: 'CHANNEL_LOST' },
    'cut between records': { stream: concat(at(0), at(1)), code: 'CHANNEL_LOST' },
    'cut before the end': { stream: concat(...records.slice(0, -1)), code: 'CHANNEL_LOST' },
    nothing: { stream: Buffer.alloc(0), code: 'CHANNEL_LOST' },
  };
  for (const [what, { stream, code }] of Object.entries(cases)) {
    t.equal(await answerTo(stream, pairing), code, what);
  }
};

/** A stream of records as a peer with the right keys, but wrong manners, may send them. */
const stream = (...records: [RecordKind, Uint8Array][]): Buffer => {
  const sealer = sealerOf();
  return Buffer.concat(records.flatMap(([kind, plaintext]) => sealer.seal(kind, [plaintext])));
};

const roundEnd = (round: number, pages = 0): [RecordKind, Uint8Array] => [
  'roundEnd',
  encodeRoundEnd({ round, pages, zeroPages: 0 }),
];

const wrongly = async (t: Test, pairing: Pairing) => {
  const state: [RecordKind, Uint8Array] = ['state', randomBytes(10)];
  const end: [RecordKind, Uint8Array] = ['end', Buffer.alloc(0)];
  // One zero page, number 256 of 256.
  const outside = Buffer.from('00000001000001000000010000000001'.padEnd(40, '0'), 'hex');
  const cases: Record<string, { bytes: Buffer; code: Code | undefined }> = {
    'the shortest transfer': { bytes: stream(roundEnd(0), state, end), code: undefined },
    'state before any round': { bytes: stream(state), code: 'RECORD_ORDER' },
    'an end without state': { bytes: stream(roundEnd(0), end), code: 'RECORD_ORDER' },
    'state twice': { bytes: stream(roundEnd(0), state, state), code: 'RECORD_ORDER' },
    'pages after the state': {
      bytes: stream(roundEnd(0), state, ['pages', outside]),
      code: 'RECORD_ORDER',
    },
    'another round than the next': { bytes: stream(roundEnd(1)), code: 'RECORD_ORDER' },
    'other counts than were sent': { bytes: stream(roundEnd(0, 1)), code: 'RECORD_ORDER' },
    'a page outside the memory': { bytes: stream(['pages', outside]), code: 'RECORD_MALFORMED' },
    'a batch of nothing': { bytes: stream(['pages', Buffer.alloc(0)]), code: 'RECORD_MALFORMED' },
    'an end of round of another length': {
      bytes: stream(['roundEnd', Buffer.alloc(13)]),
      code: 'RECORD_MALFORMED',
    },
    'an end with something in it': {
      bytes: stream(roundEnd(0), state, ['end', Buffer.alloc(1)]),
      code: 'RECORD_MALFORMED',
    },
    'a state larger than its area': {
      bytes: stream(roundEnd(0), ['state', Buffer.alloc(MiB + 1)]),
      code: 'RECORD_MALFORMED',
    },
    'a state of nothing': {
      bytes: stream(roundEnd(0), ['state', Buffer.alloc(0)]),
      code: 'RECORD_MALFORMED',
    },
    'rounds without end': {
      bytes: stream(...Array.from({ length: 20 }, (_, n) => roundEnd(n))),
      code: 'RECORD_ORDER',
    },
  };
  for (const [what, { bytes, code }] of Object.entries(cases)) {
    t.equal(await answerTo(bytes, pairing), code, what);
  }
};

const silent = async (t: Test, pairing: Pairing) => {
  using to = new TestMemory(RAM_BYTES);
  await using opened = await openRelay(to, pairing);
  const [record = Buffer.alloc(0)] = await wholeTransfer();
  opened.socket.write(record.subarray(0, 5000), () => opened.socket.destroy());
  await once(opened.socket, 'close');
  t.match(await opened.receiver.failed, { code: 'CHANNEL_LOST' });
};

for (const pairing of PAIRINGS.filter(({ source }) => source === 'portable')) {
  const to = titleOf(pairing);
  void test(`records changed on their way: ${to}`, (t) => changed(t, pairing));
  void test(`genuine records that no honest source sends: ${to}`, (t) => wrongly(t, pairing));
  void test(`a peer that stops in the middle: CHANNEL_LOST: ${to}`, (t) => silent(t, pairing));
}
