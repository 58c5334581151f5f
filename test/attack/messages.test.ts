/**
 * A host with a valid certificate of this CA sends what no honest source sends, before any VM is
 * admitted: each has its code, the connection ends, host-b stays clean and serves the next one.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Packr } from 'msgpackr';
import { test, type Test } from 'tap';
import { MESSAGE_BYTES_MAX } from '../../src/base/limits.ts';
import { MiB } from '../../src/base/units.ts';
import { encodeMessage } from '../../src/protocol/codec.ts';
import { MESSAGE_TYPES, type Message } from '../../src/protocol/messages.ts';
import { Cluster, smallGuest } from '../process/cluster.ts';
import { MESSAGE_SAMPLES } from '../unit/protocol/samples.ts';
import { HostileSource } from './hostile-source.ts';
import { Verdicts } from './verdicts.ts';

const packr = new Packr({ useRecords: false });
const frame = (value: unknown): Buffer => packr.pack(value);

/** host-b takes at most this much, so that a larger offer is refused and nothing large is made. */
const CAPACITY_BYTES = 256 * MiB;

interface Arena extends AsyncDisposable {
  readonly cluster: Cluster;
  readonly verdicts: Verdicts;
  /** Connects as host-c, attacks, and proves that host-b refuses with `code`. */
  readonly refuses: (
    t: Test,
    code: string,
    attack: (source: HostileSource) => Promise<void> | void,
  ) => Promise<void>;
  /** An honest migration of host-a's succeeds at once. */
  readonly servesHonest: (t: Test) => Promise<void>;
}

async function arena(): Promise<Arena> {
  const limits = { memoryBytesMax: CAPACITY_BYTES };
  const cluster = await Cluster.start({ 'host-b': { config: { limits } } });
  cluster.pki.issue('host-c', 'host');
  const verdicts = new Verdicts(cluster);
  let honest = 0;
  return {
    cluster,
    verdicts,
    refuses: (t, code, attack) =>
      verdicts.refuses(t, code, async () => {
        await using source = await HostileSource.connect(cluster, 'host-c');
        await attack(source);
        await source.ended();
      }),
    servesHonest: async (t) => {
      honest += 1;
      const vm = `honest${honest}`;
      await cluster.a.call('vm.create', smallGuest(vm, { memoryBytes: 4 * MiB }));
      const result = await cluster.a.migrate(vm, 'host-b', { verify: true });
      t.match(result, { outcome: 'completed', verified: true }, 'an honest migration works');
      t.equal((await cluster.b.check(vm)).badPages, 0);
      await verdicts.next();
      await cluster.b.call('vm.delete', { name: vm });
    },
    [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
  };
}

/** Nested deeper than any stack. */
const deep = Buffer.alloc(200_000, 0x91);
/** Headers of msgpack that promise 4 GiB. */
const promises: Record<string, Buffer> = {
  'an array of 4 G entries': Buffer.from('ddffffffff', 'hex'),
  'a map of 4 G entries': Buffer.from('dfffffffff', 'hex'),
  'a string of 4 GiB': Buffer.from('dbffffffff', 'hex'),
  'bytes of 4 GiB': Buffer.from('c6ffffffff', 'hex'),
  'an extension type': Buffer.from('c7ff01', 'hex'),
};

void test('frames that are no messages', async (t) => {
  await using it = await arena();
  const frames: Record<string, { code: string; bytes: Buffer }> = {
    nothing: { code: 'MESSAGE_MALFORMED', bytes: Buffer.alloc(0) },
    'random bytes': { code: 'MESSAGE_MALFORMED', bytes: randomBytes(1000) },
    'a number': { code: 'MESSAGE_MALFORMED', bytes: frame(7) },
    'a list': { code: 'MESSAGE_MALFORMED', bytes: frame(['HELLO']) },
    'a map without a type': { code: 'MESSAGE_MALFORMED', bytes: frame({ to: 'host-b' }) },
    'a type that is no text': { code: 'MESSAGE_MALFORMED', bytes: frame({ type: 1 }) },
    'an unknown type': { code: 'MESSAGE_UNKNOWN', bytes: frame({ type: 'GOODBYE' }) },
    'a type of another world': { code: 'MESSAGE_UNKNOWN', bytes: frame({ type: 'constructor' }) },
    'two messages in one frame': {
      code: 'MESSAGE_MALFORMED',
      bytes: Buffer.concat([frame({ type: 'CLI_ATT_OK' }), frame({ type: 'CLI_ATT_OK' })]),
    },
    'nested 200,000 deep': { code: 'MESSAGE_MALFORMED', bytes: deep },
    'as large as may be': {
      code: 'MESSAGE_MALFORMED',
      bytes: Buffer.alloc(MESSAGE_BYTES_MAX, 0xc1),
    },
    'one byte larger': {
      code: 'MESSAGE_TOO_LARGE',
      bytes: Buffer.alloc(MESSAGE_BYTES_MAX + 1, 0xc1),
    },
    ...Object.fromEntries(
      Object.entries(promises).map(([what, bytes]) => [what, { code: 'MESSAGE_MALFORMED', bytes }]),
    ),
  };
  for (const [what, { code, bytes }] of Object.entries(frames)) {
    await t.test(what, (t) => it.refuses(t, code, ({ socket }) => socket.send(bytes)));
  }
  await t.test('a text frame', (t) =>
    it.refuses(t, 'MESSAGE_MALFORMED', ({ socket }) => socket.send('HELLO')),
  );
  await t.test('fragments without end', (t) =>
    it.refuses(t, 'MESSAGE_TOO_LARGE', ({ socket }) => {
      for (let i = 0; i < 40; i += 1) socket.send(Buffer.alloc(8192), { fin: false });
    }),
  );
  await it.servesHonest(t);
});

void test('pings: many are answered, a flood ends the connection', async (t) => {
  await using it = await arena();
  await t.test('fragments with pings between them', async (t) => {
    await using source = await HostileSource.connect(it.cluster, 'host-c');
    const { socket } = source;
    const whole = encodeMessage(source.hello() as Message);
    for (let at = 0; at < whole.length; at += 10) {
      socket.send(whole.subarray(at, at + 10), { fin: at + 10 >= whole.length, binary: true });
      socket.ping();
      await once(socket, 'pong');
    }
    await source.expect('HELLO_OK');
    socket.terminate();
    t.match(await it.verdicts.next(), { code: 'PEER_CLOSED' });
  });
  await t.test('a flood', (t) =>
    it.refuses(t, 'PEER_CLOSED', async (source) => {
      for (let i = 0; i < 20_000; i += 1) source.socket.ping(Buffer.alloc(100));
      await once(source.socket, 'close');
    }),
  );
  await it.servesHonest(t);
});

void test('HELLO and attestation, wrongly', async (t) => {
  await using it = await arena();
  const hellos: Record<string, { code: string; changes: object }> = {
    'another version': { code: 'VERSION_MISMATCH', changes: { versionMin: 2, versionMax: 9 } },
    'a version of no time': { code: 'MESSAGE_MALFORMED', changes: { versionMin: 0 } },
    'for another host': { code: 'PEER_WRONG', changes: { to: 'host-x' } },
    'no name of a host': { code: 'MESSAGE_MALFORMED', changes: { to: '../host-b' } },
    'no suite of ours': { code: 'SUITE_MISMATCH', changes: { suites: ['none', 'rot13'] } },
    'no form of ours': { code: 'FORM_MISMATCH', changes: { forms: ['carrier-pigeon'] } },
    'no suites': { code: 'MESSAGE_MALFORMED', changes: { suites: [] } },
    'a thousand suites': {
      code: 'MESSAGE_MALFORMED',
      changes: { suites: Array.from({ length: 1000 }, () => 'none') },
    },
    'no channel': { code: 'MESSAGE_MALFORMED', changes: { channels: 0 } },
    'a thousand channels': { code: 'MESSAGE_MALFORMED', changes: { channels: 1000 } },
    'no id': { code: 'MESSAGE_MALFORMED', changes: { migrationId: 'x' } },
    'a further field': { code: 'MESSAGE_MALFORMED', changes: { colour: 'red' } },
    'a field missing': { code: 'MESSAGE_MALFORMED', changes: { features: undefined } },
  };
  for (const [what, { code, changes }] of Object.entries(hellos)) {
    await t.test(`HELLO: ${what}`, (t) =>
      it.refuses(t, code, (source) => source.send(source.hello(changes))),
    );
  }
  await t.test('HELLO twice', (t) =>
    it.refuses(t, 'MESSAGE_UNEXPECTED', async (source) => {
      await source.greet();
      source.send(source.hello());
    }),
  );
  const requests: Record<string, { code: string; changes: object }> = {
    'a nonce too short': { code: 'MESSAGE_MALFORMED', changes: { nonce: randomBytes(31) } },
    'a nonce too long': { code: 'MESSAGE_MALFORMED', changes: { nonce: randomBytes(33) } },
    'a nonce of text': { code: 'MESSAGE_MALFORMED', changes: { nonce: 'x'.repeat(32) } },
    'no format of ours': { code: 'ATT_FORMAT', changes: { formats: ['horoscope'] } },
    'a PCR that is none': { code: 'MESSAGE_MALFORMED', changes: { pcrSelection: [24] } },
  };
  for (const [what, { code, changes }] of Object.entries(requests)) {
    await t.test(`ATT_REQUEST: ${what}`, (t) =>
      it.refuses(t, code, async (source) => {
        await source.greet();
        source.send(source.attRequest(changes));
      }),
    );
  }
  await it.servesHonest(t);
});

const say = (source: HostileSource, body: Uint8Array, format = 'software') =>
  source.send({ type: 'SVR_ATT_OK', evidence: { format, body } });

void test('evidence that is not of here and now', async (t) => {
  await using it = await arena();
  const { cluster } = it;
  /** Evidence that was good on a connection that is over. */
  const former = async (name: string): Promise<Uint8Array> => {
    await using session = await HostileSource.connect(cluster, name);
    const { body } = await session.evidence(await session.challenge());
    session.socket.terminate();
    t.match(await it.verdicts.next(), { code: 'PEER_CLOSED' });
    return body;
  };
  for (const [what, name] of [
    ['of another session of the same host', 'host-c'],
    ['of another host', 'host-a'],
  ] as const) {
    const body = await former(name);
    await t.test(what, (t) =>
      it.refuses(t, 'ATT_NONCE_MISMATCH', async (source) => {
        await source.challenge();
        say(source, body);
      }),
    );
  }
  await t.test('the destination’s own, sent back', (t) =>
    it.refuses(t, 'ATT_NONCE_MISMATCH', async (source) => {
      say(source, (await source.challenge()).evidence.body);
    }),
  );
  for (const length of [1, 64, 64 * 1024]) {
    await t.test(`${length} random bytes`, (t) =>
      it.refuses(t, 'ATT_NONCE_MISMATCH', async (source) => {
        await source.challenge();
        say(source, randomBytes(length));
      }),
    );
  }
  await t.test('of a format that policy does not allow', (t) =>
    it.refuses(t, 'ATT_FORMAT', async (source) => {
      const { body } = await source.evidence(await source.challenge());
      say(source, body, 'horoscope');
    }),
  );
  await t.test('none: an offer instead', (t) =>
    it.refuses(t, 'MESSAGE_UNEXPECTED', async (source) => {
      await source.challenge();
      source.send(source.offer());
    }),
  );
  await it.servesHonest(t);
});

void test('every message out of its order, in every state before admission', async (t) => {
  await using it = await arena();
  const states: Record<
    string,
    { reach: (source: HostileSource) => Promise<unknown>; permitted: string[] }
  > = {
    AwaitingHello: { reach: async () => undefined, permitted: ['HELLO'] },
    AwaitingAttRequest: { reach: (source) => source.greet(), permitted: ['ATT_REQUEST'] },
    AwaitingSourceVerdict: {
      reach: (source) => source.challenge(),
      permitted: ['SVR_ATT_OK', 'SVR_ATT_FAILED'],
    },
    AwaitingOffer: { reach: (source) => source.attest(), permitted: ['OFFER'] },
  };
  t.equal(MESSAGE_SAMPLES.length, MESSAGE_TYPES.length);
  for (const [state, { reach, permitted }] of Object.entries(states)) {
    await t.test(state, async (t) => {
      for (const message of MESSAGE_SAMPLES) {
        if (message.type === 'ABORT' || permitted.includes(message.type)) continue;
        await using source = await HostileSource.connect(it.cluster, 'host-c');
        await reach(source);
        source.send(message);
        await source.ended();
        t.match(await it.verdicts.next(), { code: 'MESSAGE_UNEXPECTED' }, message.type);
      }
      await it.verdicts.isClean(t);
    });
  }
  await it.servesHonest(t);
});

const region = (bytes: unknown) => ({ regions: [{ id: 0, bytes }] });

void test('offers of VMs that cannot be', async (t) => {
  await using it = await arena();
  const many = Array.from({ length: 16 }, (_, id) => ({ id, bytes: 2 ** 40 }));
  const offers: Record<string, { code: string; changes?: object; more?: object }> = {
    'a name that is a path': { code: 'MESSAGE_MALFORMED', changes: { name: '../../etc/passwd' } },
    'a name with a slash': { code: 'MESSAGE_MALFORMED', changes: { name: 'a/b' } },
    'a name of NUL': { code: 'MESSAGE_MALFORMED', changes: { name: 'a\0b' } },
    'a name of 64 letters': { code: 'MESSAGE_MALFORMED', changes: { name: 'a'.repeat(64) } },
    'no name': { code: 'MESSAGE_MALFORMED', changes: { name: '' } },
    'an id that is a path': { code: 'MESSAGE_MALFORMED', changes: { vmId: '../x' } },
    '2^53 bytes': { code: 'MESSAGE_MALFORMED', changes: region(2 ** 53) },
    'negative bytes': { code: 'MESSAGE_MALFORMED', changes: region(-4096) },
    'half a page': { code: 'MESSAGE_MALFORMED', changes: region(2048) },
    'one byte too many': { code: 'MESSAGE_MALFORMED', changes: region(MiB + 1) },
    'no bytes': { code: 'MESSAGE_MALFORMED', changes: region(0) },
    'bytes that are no number': { code: 'MESSAGE_MALFORMED', changes: region(NaN) },
    'no region': { code: 'MESSAGE_MALFORMED', changes: { regions: [] } },
    '16 TiB': { code: 'DEST_CAPACITY', changes: { regions: many } },
    'a page more than there is': { code: 'DEST_CAPACITY', changes: region(CAPACITY_BYTES + 4096) },
    'pages of another size': { code: 'MESSAGE_MALFORMED', changes: { pageBytes: 65_536 } },
    'two regions': {
      code: 'DESCRIPTOR_UNSUPPORTED',
      changes: { regions: [0, 1].map((id) => ({ id, bytes: MiB })) },
    },
    'no vTPM': { code: 'DESCRIPTOR_UNSUPPORTED', changes: { vtpm: null } },
    'another driver': { code: 'MESSAGE_MALFORMED', changes: { driver: 'qemu' } },
    'no vCPU': { code: 'MESSAGE_MALFORMED', changes: { vcpus: 0 } },
    'a million vCPUs': { code: 'MESSAGE_MALFORMED', changes: { vcpus: 1e6 } },
    'an image larger than the memory': {
      code: 'REQUEST_INVALID',
      changes: { imageBytes: 64 * MiB },
    },
    'an unknown workload': { code: 'MESSAGE_MALFORMED', changes: { workload: { kind: 'sh' } } },
    'a workload with a path': {
      code: 'MESSAGE_MALFORMED',
      changes: { workload: { kind: 'idle', imagePath: '/etc/shadow' } },
    },
    'a state without bound': { code: 'MESSAGE_MALFORMED', changes: { stateBytesMax: 2 ** 40 } },
    'epoch 0': { code: 'MESSAGE_MALFORMED', more: { epoch: 0 } },
    'an epoch past all bounds': { code: 'MESSAGE_MALFORMED', more: { epoch: 2 ** 50 } },
    __proto__: {
      code: 'MESSAGE_MALFORMED',
      more: JSON.parse('{"__proto__": {"verify": true}, "x": 1}') as object,
    },
  };
  for (const [what, { code, changes = {}, more = {} }] of Object.entries(offers)) {
    await t.test(what, (t) =>
      it.refuses(t, code, async (source) => {
        await source.attest();
        source.send(source.offer(changes, more));
      }),
    );
  }
  await t.test('a migration id that was used before', async (t) => {
    let used = '';
    await it.refuses(t, 'DESCRIPTOR_UNSUPPORTED', async (source) => {
      used = source.migrationId;
      await source.attest();
      source.send(source.offer({ vtpm: null }));
    });
    await it.refuses(t, 'MESSAGE_MALFORMED', (source) =>
      source.send(source.hello({ migrationId: used })),
    );
  });
  await it.servesHonest(t);
});
