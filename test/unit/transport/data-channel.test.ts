/** Data channels of every form and engine: who may join, and that nobody else keeps the rightful peer out. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { connect as tcpConnect, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { connect as tlsConnect, TLSSocket } from 'node:tls';
import { test } from 'tap';
import { AssertionFailed } from '../../../src/base/assert.ts';
import { JOIN_PENDING_MAX, JOIN_WAIT_MS_MAX } from '../../../src/base/limits.ts';
import type { Clock } from '../../../src/base/ports.ts';
import {
  JOIN_EXPORTER_BYTES,
  JOIN_EXPORTER_LABEL,
  JOIN_NONCE_BYTES,
  type Binding,
  type Join,
} from '../../../src/crypto/join-proof.ts';
import type { MigError } from '../../../src/protocol/error.ts';
import type { ChannelForm } from '../../../src/protocol/options.ts';
import type { Carrier } from '../../../src/transport/connection.ts';
import {
  connectDataChannel,
  listenDataChannel,
  type DataListener,
} from '../../../src/transport/data-channel.ts';
import { JOIN_BYTES, joinFrame } from '../../../src/transport/join.ts';
import {
  clientOptions,
  CONTROL_ALPN,
  DATA_ALPN,
  nativeSettings,
  serverOptions,
} from '../../../src/transport/tls.ts';
import {
  makeHosts,
  makeOutcasts,
  MIGRATION_ID,
  PAIRINGS,
  realClock,
  realRandom,
  sessionSecret,
  titleOf,
  type Host,
  type Pairing,
} from '../migration/data-plane/fixtures.ts';

const { a, b, c } = makeHosts('a', 'b', 'c');
const foreign = makeHosts('a', 'b');

const joinOf = (channel = 0, salt = 0, migrationId = MIGRATION_ID): Join => ({
  migrationId,
  channel,
  key: sessionSecret(salt).channelKeys(channel, 'to-destination').join,
});

interface Listening {
  readonly refused?: MigError[];
  readonly clock?: Clock;
  readonly identity?: Host['identity'];
  readonly expected?: Pick<Host, 'name' | 'fingerprint256'>;
  readonly ports?: { readonly from: number; readonly to: number };
}

interface Attempt {
  readonly from?: Host;
  readonly expected?: Pick<Host, 'name' | 'fingerprint256'>;
  readonly join?: Join;
}

/** A listener of host b and who connects to it from host a, of one form and two engines. */
class Ends {
  readonly #pairing: Pairing;

  constructor(pairing: Pairing) {
    this.#pairing = pairing;
  }

  listen({
    refused = [],
    clock = realClock,
    expected = a,
    identity = b.identity,
    ports,
  }: Listening = {}): Promise<DataListener> {
    const { form, destination } = this.#pairing;
    return listenDataChannel({
      form,
      engine: destination,
      address: '127.0.0.1',
      ports,
      identity,
      expected,
      join: joinOf(),
      clock,
      random: realRandom,
      onRefused: (error) => refused.push(error),
    });
  }

  connect(port: number, attempt: Attempt = {}): Promise<Carrier> {
    const { form, source } = this.#pairing;
    return connectDataChannel({
      form,
      engine: source,
      host: '127.0.0.1',
      port,
      identity: (attempt.from ?? a).identity,
      expected: attempt.expected ?? b,
      join: attempt.join ?? joinOf(),
      clock: realClock,
      random: realRandom,
      highWaterMark: 65_536,
    });
  }

  /** The rightful peer joins, and bytes pass. */
  async joins(listener: DataListener): Promise<boolean> {
    const [source, destination] = await Promise.all([this.connect(listener.port), listener.joined]);
    const said = Buffer.from('first record');
    if (source.engine === 'native') source.link.write(said);
    else source.socket.write(said);
    const heard = await firstBytesOf(destination, said.length);
    for (const carrier of [source, destination]) drop(carrier);
    return heard.equals(said);
  }
}

/** Within some slices of a link that waits. */
async function firstBytesOf(carrier: Carrier, count: number): Promise<Buffer> {
  if (carrier.engine === 'portable') {
    const received = once(carrier.socket, 'data') as Promise<[Buffer]>;
    carrier.socket.resume();
    return (await received)[0];
  }
  const bytes = Buffer.alloc(count);
  for (;;) {
    const got = carrier.link.read(bytes);
    if (got > 0) return bytes.subarray(0, got);
    await setImmediate();
  }
}

function drop(carrier: Carrier): void {
  if (carrier.engine === 'portable') {
    carrier.socket.destroy();
    return;
  }
  closeSync(carrier.link.fd);
  carrier.link[Symbol.dispose]();
}

interface Wrong {
  readonly attempt: Attempt;
  readonly code: string | RegExp;
}

const WRONG_PROOFS: Record<string, Wrong> = {
  'a key of another session': { attempt: { join: joinOf(0, 1) }, code: 'CHANNEL_JOIN' },
  'the proof of another channel': { attempt: { join: joinOf(1) }, code: 'CHANNEL_JOIN' },
  'another migration id': {
    attempt: { join: joinOf(0, 0, MIGRATION_ID.replace('0', '1')) },
    code: 'CHANNEL_JOIN',
  },
};

const WRONG_CERTIFICATES: Record<string, Wrong> = {
  'another host of our CA': { attempt: { from: c }, code: 'CHANNEL_JOIN' },
  'the same name under a foreign CA': {
    attempt: {
      from: {
        ...foreign.a,
        identity: { ...foreign.a.identity, caPem: a.identity.caPem, crlPem: a.identity.crlPem },
      },
    },
    // A reset may overtake the alert that says why.
    code: /CERT_INVALID|CHANNEL_JOIN/,
  },
  'a listener of a foreign CA': { attempt: { from: foreign.a }, code: 'CERT_INVALID' },
  'a listener that is another host': { attempt: { expected: c }, code: 'PEER_WRONG' },
  'a listener with another certificate': {
    attempt: { expected: { name: 'b', fingerprint256: foreign.b.fingerprint256 } },
    code: 'PEER_WRONG',
  },
};

for (const pairing of PAIRINGS) {
  const ends = new Ends(pairing);

  void test(`the rightful peer joins, nobody else any more: ${titleOf(pairing)}`, async (t) => {
    const listener = await ends.listen();
    t.ok(await ends.joins(listener));
    await t.rejects(ends.connect(listener.port), { code: 'PEER_UNREACHABLE' });
  });

  const wrong = { ...WRONG_PROOFS, ...(pairing.form === 'tls' ? WRONG_CERTIFICATES : {}) };
  for (const [what, { attempt, code }] of Object.entries(wrong)) {
    void test(`refused, and the rightful peer still joins: ${what}, ${titleOf(pairing)}`, async (t) => {
      const listener = await ends.listen();
      await t.rejects(ends.connect(listener.port, attempt), { code });
      t.ok(await ends.joins(listener));
    });
  }

  void test(`silent connections are bounded: ${titleOf(pairing)}`, async (t) => {
    const listener = await ends.listen();
    const silent = [];
    for (let n = 0; n <= JOIN_PENDING_MAX; n += 1) {
      const socket = tcpConnect(listener.port, '127.0.0.1');
      socket.on('error', () => undefined);
      await once(socket, 'connect');
      silent.push({ socket, closed: once(socket.resume(), 'close') });
    }
    const [oldest, next] = silent;
    await oldest?.closed;
    t.equal(next?.socket.closed, false, 'one too many drops the oldest only');
    t.ok(await ends.joins(listener), 'and keep nobody out');
    await Promise.all(silent.map(({ closed }) => closed));
  });
}

void test('TLS 1.3, of our protocol, never resumed', async (t) => {
  const ends = new Ends({ form: 'tls', source: 'portable', destination: 'native' });
  const listener = await ends.listen();
  const [source, destination] = await Promise.all([ends.connect(listener.port), listener.joined]);
  if (!('socket' in source) || !(source.socket instanceof TLSSocket)) throw new Error('no TLS');
  const { socket } = source;
  t.equal(socket.getProtocol(), 'TLSv1.3');
  t.equal(socket.alpnProtocol, DATA_ALPN);
  t.equal(socket.isSessionReused(), false);
  for (const carrier of [source, destination]) drop(carrier);
});

const rawTls = async (port: number, alpn = DATA_ALPN): Promise<TLSSocket> => {
  const socket = tlsConnect({ ...clientOptions(a.identity, alpn), host: '127.0.0.1', port });
  socket.on('error', () => undefined);
  await once(socket, 'secureConnect');
  return socket;
};

const bindingOf = (socket: TLSSocket): Binding => ({
  form: 'tls',
  bytes: socket.exportKeyingMaterial(JOIN_EXPORTER_BYTES, JOIN_EXPORTER_LABEL, Buffer.alloc(0)),
});

/** One side of form `sealed` as it may go wrong: it has opened, and knows both nonces. */
async function rawSealed(port: number): Promise<{ socket: Socket; binding: Binding }> {
  const socket = tcpConnect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  const nonce = randomBytes(JOIN_NONCE_BYTES);
  const claim = joinFrame({ form: 'sealed', bytes: nonce }, joinOf(), 'claim');
  socket.write(Buffer.concat([nonce, claim]));
  const [theirs] = (await once(socket, 'data')) as [Buffer];
  return { socket, binding: { form: 'sealed', bytes: Buffer.concat([nonce, theirs]) } };
}

/** What a refused connection says of itself; `frames` gets the bindings of two connections. */
async function refusedFor(
  listener: DataListener,
  form: ChannelForm,
  frames: (own: Binding, other: Binding) => Uint8Array,
): Promise<void> {
  const open = async () => {
    if (form === 'sealed') return rawSealed(listener.port);
    const socket = await rawTls(listener.port);
    return { socket, binding: bindingOf(socket) };
  };
  const [first, second] = [await open(), await open()];
  second.socket.end(frames(second.binding, first.binding));
  await once(second.socket.resume(), 'close');
  first.socket.destroy();
}

const LISTENING = PAIRINGS.filter(({ source }) => source === 'portable');

for (const pairing of LISTENING) {
  const { form } = pairing;
  const WRONG_FRAMES: Record<string, (own: Binding, other: Binding) => Uint8Array> = {
    'the proof of another connection': (_, other) => joinFrame(other, joinOf(), 'source'),
    'the proof of the other role': (own) => joinFrame(own, joinOf(), 'destination'),
    'a claim instead of a proof': (own) => joinFrame(own, joinOf(), 'claim'),
    'the proof of the other form': ({ bytes }) =>
      joinFrame({ form: form === 'tls' ? 'sealed' : 'tls', bytes }, joinOf(), 'source'),
    'anything after the proof': (own) =>
      Buffer.concat([joinFrame(own, joinOf(), 'source'), Buffer.alloc(1)]),
    'a part of the proof': (own) => joinFrame(own, joinOf(), 'source').subarray(0, JOIN_BYTES - 1),
  };
  void test(`a proof is good on its own connection only: ${titleOf(pairing)}`, async (t) => {
    const refused: MigError[] = [];
    const ends = new Ends(pairing);
    const listener = await ends.listen({ refused });
    for (const [what, frames] of Object.entries(WRONG_FRAMES)) {
      refused.length = 0;
      await refusedFor(listener, form, frames);
      t.match(refused[0], { code: 'CHANNEL_JOIN' }, what);
    }
    t.ok(await ends.joins(listener));
  });
}

for (const pairing of LISTENING.filter(({ form }) => form === 'tls')) {
  const ends = new Ends(pairing);

  void test(`the source host with another certificate: refused, ${titleOf(pairing)}`, async (t) => {
    const refused: MigError[] = [];
    const expected = { name: 'a', fingerprint256: c.fingerprint256 };
    const listener = await ends.listen({ refused, expected });
    await t.rejects(ends.connect(listener.port), { code: 'CHANNEL_JOIN' });
    t.match(refused, [{ code: 'PEER_WRONG' }]);
    listener.close();
    await t.rejects(listener.joined, { code: 'CHANNEL_JOIN' });
  });

  void test(`a refused certificate is told as such: ${titleOf(pairing)}`, async (t) => {
    const refused: MigError[] = [];
    const listener = await ends.listen({ refused });
    const { caPem, crlPem } = a.identity;
    const from = { ...foreign.a, identity: { ...foreign.a.identity, caPem, crlPem } };
    await t.rejects(ends.connect(listener.port, { from }));
    t.match(refused, [{ code: 'CERT_INVALID' }]);
    listener.close();
  });

  void test(`another protocol than ours is refused: ${titleOf(pairing)}`, async (t) => {
    const listener = await ends.listen();
    await t.rejects(rawTls(listener.port, CONTROL_ALPN));
    t.ok(await ends.joins(listener));
  });
}

const { revoked, expired, judge } = makeOutcasts();
const OUTCASTS = [
  { what: 'revoked', from: revoked, code: 'CERT_REVOKED' },
  { what: 'expired', from: expired, code: 'CERT_EXPIRED' },
];

for (const { what, from, code } of OUTCASTS) {
  for (const pairing of PAIRINGS.filter(({ form }) => form === 'tls')) {
    void test(`a certificate that is ${what}, of either side: ${titleOf(pairing)}`, async (t) => {
      const refused: MigError[] = [];
      const ends = new Ends(pairing);
      const listener = await ends.listen({ refused, identity: judge.identity, expected: from });
      await t.rejects(ends.connect(listener.port, { from, expected: judge }));
      t.match(refused, [{ code }], 'of who connects');
      listener.close();
      const outcast = await ends.listen({ identity: from.identity, expected: judge });
      const connecting = ends.connect(outcast.port, { from: judge, expected: from });
      await t.rejects(connecting, { code }, 'of who listens');
      outcast.close();
    });
  }
}

void test('no connection without a revocation list', (t) => {
  const identity = { ...a.identity, crlPem: '' };
  for (const settings of [clientOptions, serverOptions, nativeSettings]) {
    t.throws(() => settings(identity, DATA_ALPN), AssertionFailed);
  }
  t.end();
});

const ENDS = new Ends({ form: 'tls', source: 'native', destination: 'native' });

void test('nobody came in time: CHANNEL_JOIN', async (t) => {
  const fires: (() => void)[] = [];
  const clock: Clock = {
    ...realClock,
    after: (delayMs, fire) => {
      if (delayMs === JOIN_WAIT_MS_MAX) fires.push(fire);
      return { cancel: () => undefined };
    },
  };
  const listener = await ENDS.listen({ clock });
  for (const fire of fires) fire();
  await t.rejects(listener.joined, { code: 'CHANNEL_JOIN' });
  await t.rejects(ENDS.connect(listener.port), { code: 'PEER_UNREACHABLE' });
});

void test('ports come from the range; a range that is taken is LISTEN_FAILED', async (t) => {
  const first = await ENDS.listen();
  const { port } = first;
  const again = ENDS.listen({ ports: { from: port, to: port } });
  await t.rejects(again, { code: 'LISTEN_FAILED' });
  first.close();
});
