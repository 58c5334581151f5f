/** Data channels: who may join, and that nobody else keeps the rightful peer out. */
import { once } from 'node:events';
import { connect as tcpConnect } from 'node:net';
import { connect as tlsConnect, type TLSSocket } from 'node:tls';
import { test } from 'tap';
import { AssertionFailed } from '../../../src/base/assert.ts';
import { JOIN_PENDING_MAX, JOIN_WAIT_MS_MAX } from '../../../src/base/limits.ts';
import type { Clock } from '../../../src/base/ports.ts';
import type { Join } from '../../../src/crypto/join-proof.ts';
import type { MigError } from '../../../src/protocol/error.ts';
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
  serverOptions,
} from '../../../src/transport/tls.ts';
import {
  makeHosts,
  MIGRATION_ID,
  realClock,
  sessionSecret,
  type Host,
} from '../migration/data-plane/fixtures.ts';

const { a, b, c } = makeHosts('a', 'b', 'c');
const foreign = makeHosts('a', 'b');

const joinOf = (channel = 0, salt = 0, migrationId = MIGRATION_ID): Join => ({
  migrationId,
  channel,
  key: sessionSecret(salt).channelKeys(channel, 'to-destination').join,
});

const listen = (refused: MigError[] = [], clock: Clock = realClock): Promise<DataListener> =>
  listenDataChannel({
    address: '127.0.0.1',
    identity: b.identity,
    expected: a,
    join: joinOf(),
    clock,
    onRefused: (error) => refused.push(error),
  });

interface Attempt {
  readonly from?: Host;
  readonly expected?: Pick<Host, 'name' | 'fingerprint256'>;
  readonly join?: Join;
}

const connect = (port: number, attempt: Attempt = {}): Promise<TLSSocket> =>
  connectDataChannel({
    host: '127.0.0.1',
    port,
    identity: (attempt.from ?? a).identity,
    expected: attempt.expected ?? b,
    join: attempt.join ?? joinOf(),
    clock: realClock,
    highWaterMark: 65_536,
  });

/** The rightful peer joins, and bytes pass. */
async function joins(listener: DataListener): Promise<boolean> {
  const [source, destination] = await Promise.all([connect(listener.port), listener.joined]);
  source.write('first record');
  const received = once(destination, 'data') as Promise<[Buffer]>;
  destination.resume();
  const [bytes] = await received;
  source.destroy();
  destination.destroy();
  return bytes.toString() === 'first record';
}

void test('the rightful peer joins over TLS 1.3 with both proofs', async (t) => {
  const listener = await listen();
  const [source, destination] = await Promise.all([connect(listener.port), listener.joined]);
  t.equal(source.getProtocol(), 'TLSv1.3');
  t.equal(source.alpnProtocol, DATA_ALPN);
  t.equal(source.isSessionReused(), false);
  await t.rejects(connect(listener.port), { code: 'PEER_UNREACHABLE' }, 'nobody else any more');
  source.destroy();
  destination.destroy();
});

const WRONG: Record<string, { attempt: Attempt; code: string }> = {
  'a key of another session': { attempt: { join: joinOf(0, 1) }, code: 'CHANNEL_JOIN' },
  'the proof of another channel': { attempt: { join: joinOf(1) }, code: 'CHANNEL_JOIN' },
  'another migration id': {
    attempt: { join: joinOf(0, 0, MIGRATION_ID.replace('0', '1')) },
    code: 'CHANNEL_JOIN',
  },
  'another host of our CA': { attempt: { from: c }, code: 'CHANNEL_JOIN' },
  'the same name under a foreign CA': {
    attempt: {
      from: {
        ...foreign.a,
        identity: { ...foreign.a.identity, caPem: a.identity.caPem, crlPem: a.identity.crlPem },
      },
    },
    code: 'CHANNEL_JOIN',
  },
  'a listener of a foreign CA': { attempt: { from: foreign.a }, code: 'CERT_INVALID' },
  'a listener that is another host': { attempt: { expected: c }, code: 'PEER_WRONG' },
  'a listener with another certificate': {
    attempt: { expected: { name: 'b', fingerprint256: foreign.b.fingerprint256 } },
    code: 'PEER_WRONG',
  },
};

for (const [what, { attempt, code }] of Object.entries(WRONG)) {
  void test(`refused, and the rightful peer still joins: ${what}`, async (t) => {
    const listener = await listen();
    await t.rejects(connect(listener.port, attempt), { code });
    t.ok(await joins(listener));
  });
}

void test('the source host with a certificate of its own, but another one: refused', async (t) => {
  const refused: MigError[] = [];
  const listener = await listenDataChannel({
    address: '127.0.0.1',
    identity: b.identity,
    expected: { name: 'a', fingerprint256: c.fingerprint256 },
    join: joinOf(),
    clock: realClock,
    onRefused: (error) => refused.push(error),
  });
  await t.rejects(connect(listener.port), { code: 'CHANNEL_JOIN' });
  t.match(refused, [{ code: 'PEER_WRONG' }]);
  listener.close();
  await t.rejects(listener.joined, { code: 'CHANNEL_JOIN' });
});

const rawTls = async (port: number, alpn = DATA_ALPN): Promise<TLSSocket> => {
  const socket = tlsConnect({ ...clientOptions(a.identity, alpn), host: '127.0.0.1', port });
  socket.on('error', () => undefined);
  await once(socket, 'secureConnect');
  return socket;
};

void test('a refused certificate is told as such, not as a lost connection', async (t) => {
  const refused: MigError[] = [];
  const listener = await listen(refused);
  const { caPem, crlPem } = a.identity;
  const from = { ...foreign.a, identity: { ...foreign.a.identity, caPem, crlPem } };
  await t.rejects(connect(listener.port, { from }));
  t.match(refused, [{ code: 'CERT_INVALID' }]);
  listener.close();
});

void test('no connection without a revocation list', (t) => {
  const identity = { ...a.identity, crlPem: '' };
  t.throws(() => clientOptions(identity, DATA_ALPN), AssertionFailed);
  t.throws(() => serverOptions(identity, DATA_ALPN), AssertionFailed);
  t.end();
});

void test('a proof is good on its own TLS connection only', async (t) => {
  const refused: MigError[] = [];
  const listener = await listen(refused);
  const [first, second] = await Promise.all([rawTls(listener.port), rawTls(listener.port)]);
  second.write(joinFrame(first, joinOf(), 'source'));
  await once(second.resume(), 'close');
  t.match(refused, [{ code: 'CHANNEL_JOIN' }]);
  const reflected = await rawTls(listener.port);
  reflected.write(joinFrame(reflected, joinOf(), 'destination'));
  await once(reflected.resume(), 'close');
  t.match(refused[1], { code: 'CHANNEL_JOIN' }, 'nor in the other role');
  const eager = await rawTls(listener.port);
  eager.write(Buffer.concat([joinFrame(eager, joinOf(), 'source'), Buffer.alloc(1)]));
  await once(eager.resume(), 'close');
  t.match(refused[2], { code: 'CHANNEL_JOIN' }, 'nor with anything after it');
  const short = await rawTls(listener.port);
  short.end(joinFrame(short, joinOf(), 'source').subarray(0, JOIN_BYTES - 1));
  await once(short.resume(), 'close');
  t.match(refused[3], { code: 'CHANNEL_JOIN' }, 'nor a part of it');
  first.destroy();
  t.ok(await joins(listener));
});

void test('another protocol than ours is refused', async (t) => {
  const listener = await listen();
  await t.rejects(rawTls(listener.port, CONTROL_ALPN));
  t.ok(await joins(listener));
});

void test('silent connections are bounded and keep nobody out', async (t) => {
  const listener = await listen();
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
  t.ok(await joins(listener));
  await Promise.all(silent.map(({ closed }) => closed));
});

void test('nobody came in time: CHANNEL_JOIN', async (t) => {
  const fires: (() => void)[] = [];
  const clock: Clock = {
    ...realClock,
    after: (delayMs, fire) => {
      if (delayMs === JOIN_WAIT_MS_MAX) fires.push(fire);
      return { cancel: () => undefined };
    },
  };
  const listener = await listen([], clock);
  for (const fire of fires) fire();
  await t.rejects(listener.joined, { code: 'CHANNEL_JOIN' });
  await t.rejects(connect(listener.port), { code: 'PEER_UNREACHABLE' });
});

void test('ports come from the range; a range that is taken is LISTEN_FAILED', async (t) => {
  const first = await listen();
  const { port } = first;
  const again = listenDataChannel({
    address: '127.0.0.1',
    ports: { from: port, to: port },
    identity: b.identity,
    expected: a,
    join: joinOf(),
    clock: realClock,
  });
  await t.rejects(again, { code: 'LISTEN_FAILED' });
  first.close();
});
