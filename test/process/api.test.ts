/** The control API of a real daemon: what is refused, what is told, who may ask at all. */
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:tls';
import path from 'node:path';
import { test } from 'tap';
import { WebSocket } from 'ws';
import { API_FRAME_BYTES_MAX, API_REQUESTS_MAX } from '../../src/base/limits.ts';
import { loadIdentity } from '../../src/crypto/pki/identity.ts';
import type { MigrationView } from '../../src/daemon/api/schema.ts';
import type { MigrationEvent, MigrationResult } from '../../src/migration/report.ts';
import { clientOptions, CONTROL_ALPN } from '../../src/transport/tls.ts';
import { Api, Cluster, freePort, smallGuest, type Daemon } from './cluster.ts';
import { answerOf, cancel, eventually, runsOn, slowly } from './refusal.ts';

const socketOf = ({ stateDir }: Daemon) => path.join(stateDir, 'migd.sock');

/** A connection for frames that no client of ours would send. */
async function open(daemon: Daemon): Promise<WebSocket> {
  const socket = new WebSocket(`ws+unix:${socketOf(daemon)}:/api`);
  socket.on('error', () => undefined);
  await once(socket, 'open');
  return socket;
}

/** A client with somebody's certificate on the daemon's own port. */
function dial({ listen }: Daemon, certs: string, name: string): WebSocket {
  const tls = clientOptions(loadIdentity(certs, name), CONTROL_ALPN);
  return new WebSocket(`wss://${listen.host}:${listen.port}/api`, {
    createConnection: () => connect({ ...tls, ...listen }),
  });
}

const closeCode = async (socket: WebSocket): Promise<unknown> => {
  const [code] = (await once(socket, 'close')) as [number];
  return code;
};

/** A request of exactly so many bytes, with a parameter that does not exist. */
const frame = (bytes: number) => {
  const head = JSON.stringify({ id: 1, method: 'hello', params: {} }).slice(0, -2);
  return `${head}"x":"${'a'.repeat(bytes - head.length - 8)}"}}`;
};

void test('requests that are none', async (t) => {
  await using cluster = Cluster.empty();
  cluster.pki.issue('host-a', 'host');
  cluster.peers['host-a'] = `127.0.0.1:${await freePort()}`;
  const daemon = await cluster.startHost('host-a');
  const { api } = daemon;
  for (const [what, bytes, code] of [
    ['not JSON', 'hello', 1008],
    ['nothing', '', 1008],
    ['an array', '[]', 1008],
    ['no id', '{"method":"hello","params":{}}', 1008],
    ['an id of 0', '{"id":0,"method":"hello","params":{}}', 1008],
    ['a method that is no text', '{"id":1,"method":7,"params":{}}', 1008],
    ['an unknown key', '{"id":1,"method":"hello","params":{},"sudo":true}', 1008],
    ['a binary frame', Buffer.from('{"id":1,"method":"hello","params":{}}'), 1008],
    ['a frame past the limit', frame(API_FRAME_BYTES_MAX + 1), 1009],
  ] as const) {
    const socket = await open(daemon);
    socket.send(bytes);
    t.equal(await closeCode(socket), code, what);
  }
  const atLimit = await open(daemon);
  atLimit.send(frame(API_FRAME_BYTES_MAX));
  const [reply] = (await once(atLimit, 'message')) as [Buffer];
  t.match(JSON.parse(reply.toString()), { id: 1, error: { code: 'REQUEST_INVALID' } }, 'at it');
  atLimit.terminate();

  for (const method of ['vm.explode', 'constructor', '__proto__', '']) {
    t.match(await answerOf(api.call(method as 'hello')), { code: 'REQUEST_INVALID' }, method);
  }
  for (const [method, params, detail] of [
    ['vm.show', {}, 'name'],
    ['vm.show', { name: '../etc' }, 'name'],
    ['vm.show', { name: 'vm', more: 1 }, 'more'],
    ['vm.create', { name: 'vm', memoryBytes: -1 }, 'memoryBytes'],
    ['vm.create', { name: 'vm', memoryBytes: 1e6, workload: { kind: 'bomb' } }, 'workload.kind'],
    ['status', { migrationId: 'last' }, 'migrationId'],
    ['cancel', {}, 'migrationId'],
    ['migrate', [], ''],
  ] as const) {
    const answer = await answerOf(api.call(method, params));
    t.equal(answer.code, 'REQUEST_INVALID', `${method} ${JSON.stringify(params)}`);
    t.ok(answer.detail.includes(detail), answer.detail);
  }
  const unknownId = '01890000-0000-7000-8000-000000000000';
  for (const method of ['status', 'watch', 'cancel'] as const) {
    const answer = await answerOf(api.call(method, { migrationId: unknownId }));
    t.equal(answer.code, 'MIGRATION_UNKNOWN', method);
  }
  t.match(await answerOf(api.call('watch')), { code: 'MIGRATION_UNKNOWN' }, 'nothing to watch');
  t.match(await answerOf(api.call('vm.check', { name: 'no' })), { code: 'VM_UNKNOWN' });
  t.match(await api.call('hello'), { host: 'host-a', role: 'both' }, 'and it still answers');

  t.equal(statSync(socketOf(daemon)).mode & 0o777, 0o600, 'the socket is its user’s');
  for (const directory of [daemon.stateDir, daemon.memoryDir]) {
    t.equal(statSync(directory).mode & 0o777, 0o700, 'and so are its folders');
  }
  const plain = request({ socketPath: socketOf(daemon), path: '/' });
  plain.end();
  const [response] = (await once(plain, 'response')) as [{ statusCode: number; resume(): void }];
  response.resume();
  t.equal(response.statusCode, 404, 'it is no web server');
});

void test('callers that come, go and do not listen', async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  const daemon = cluster.get('host-a');
  await a.call('vm.create', smallGuest('vm1'));

  await t.test('more requests at once than are allowed', async (t) => {
    const { migrationId, result } = await slowly(a, 'vm1', 'host-b');
    const greedy = await open(daemon);
    const answered = once(greedy, 'message');
    for (let id = 1; id <= API_REQUESTS_MAX; id += 1) {
      greedy.send(JSON.stringify({ id, method: 'watch', params: { migrationId } }));
    }
    await answered;
    greedy.send(JSON.stringify({ id: API_REQUESTS_MAX + 1, method: 'hello', params: {} }));
    t.equal(await closeCode(greedy), 1008);
    t.match(await a.call<MigrationView[]>('status'), [{ migrationId }], 'the migration goes on');
    await cancel(a, migrationId);
    await result;
  });

  await t.test('a caller that does not read is dropped', async (t) => {
    const deaf = await open(daemon);
    const closed = once(deaf, 'close');
    deaf.pause();
    let gone = false;
    deaf.on('error', () => (gone = true));
    void closed.then(() => (gone = true));
    const ask = JSON.stringify({ id: 1, method: 'hello', params: {} });
    await eventually('it is dropped', async () => {
      for (let i = 0; i < 1000; i += 1) deaf.send(ask, () => undefined);
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
      return gone;
    });
    t.match(await a.call('hello'), { host: 'host-a' }, 'others are answered');
    deaf.terminate();
  });

  await t.test('a late watcher hears it all from the start', async (t) => {
    const { migrationId, result } = await slowly(a, 'vm1', 'host-b');
    const late = await Api.connect(socketOf(daemon));
    const heard: MigrationEvent[] = [];
    const watched = late.call<MigrationResult>('watch', {}, (event) => heard.push(event));
    await eventually('it hears', async () => {
      await a.call('hello');
      return heard.length > 3;
    });
    t.match(heard[0], { event: 'started', migrationId, vm: 'vm1' });
    t.match(
      heard.filter(({ event }) => event === 'phase'),
      [{ phase: 'attestation' }, { phase: 'admission' }, { phase: 'pre-copy' }],
    );
    t.match(await a.call<MigrationView[]>('status'), [
      { migrationId, vm: 'vm1', from: 'host-a', to: 'host-b', phase: 'pre-copy', round: 0 },
    ]);
    t.match(await b.call<MigrationView[]>('status'), [
      { migrationId, vm: 'vm1', from: 'host-a', to: 'host-b', direction: 'incoming' },
    ]);
    await cancel(late, migrationId);
    t.same(await watched, await result, 'both are told the same');
    t.same(await late.call('watch', { migrationId }), await result, 'and whoever asks later');
    late.close();
  });

  await t.test('a caller that goes away: the migration goes on', async (t) => {
    const caller = await Api.connect(socketOf(daemon));
    const { migrationId, result } = await slowly(caller, 'vm1', 'host-b', 'pre-copy', {
      maxBandwidthBps: 64 * 1024 * 1024,
    });
    caller.close();
    await t.rejects(result, /the daemon is gone/);
    const end = await a.call<MigrationResult>('watch', { migrationId });
    t.match(end, { outcome: 'completed' });
    await runsOn(t, b, 'vm1');
  });

  await t.test('a detached one is told its id; history tells the rest', async (t) => {
    const asked = await b.migrate('vm1', 'host-a', { detach: true });
    t.same(Object.keys(asked), ['migrationId']);
    const end = await b.call<MigrationResult>('watch', { migrationId: asked.migrationId });
    t.match(end, { outcome: 'completed' });
    await eventually('the destination has filed it', async () => {
      return (await a.call<unknown[]>('status')).length === 0;
    });
    const history = await a.call<{ startedAtMs: number }[]>('history', { vm: 'vm1' });
    t.match(history, [
      { direction: 'outgoing', state: 'aborted', outcome: 'cancelled', code: 'CANCELLED' },
      { direction: 'outgoing', state: 'aborted', outcome: 'cancelled', code: 'CANCELLED' },
      { direction: 'outgoing', state: 'gone', outcome: 'completed', code: null, to: 'host-b' },
      { direction: 'incoming', state: 'active', outcome: 'completed', from: 'host-b' },
    ]);
    t.same(
      history.map(({ startedAtMs }) => startedAtMs),
      history.map(({ startedAtMs }) => startedAtMs).toSorted((x, y) => x - y),
      'oldest first',
    );
    t.same(await a.call('history', { vm: 'vm2' }), [], 'of another VM nothing');
    t.match(await b.call('status', { migrationId: asked.migrationId }), [
      { direction: 'outgoing', outcome: 'completed', vm: 'vm1' },
    ]);
  });
});

void test('operators from afar', async (t) => {
  await using cluster = Cluster.empty();
  const { pki, certs, peers } = cluster;
  pki.issue('host-a', 'host');
  pki.issue('olga', 'operator');
  pki.issue('oscar', 'owner');
  pki.issue('fired', 'operator');
  pki.revoke('fired');
  peers['host-a'] = `127.0.0.1:${await freePort()}`;
  const daemon = await cluster.startHost('host-a');

  const olga = await Api.over(dial(daemon, certs, 'olga'));
  t.match(await olga.call('hello'), { host: 'host-a' });
  await olga.call('vm.create', smallGuest('vm1'));
  await runsOn(t, olga, 'vm1');
  t.ok(
    daemon.log.some((line) => /"method":"vm.create","operator":"olga"/.test(line)),
    'who asked is in the log',
  );
  t.match(await answerOf(olga.migrate('vm1', 'host-a')), { code: 'HOST_SELF' });
  // The daemon may read its keys; an operator elsewhere may not.
  const imagePath = path.join(certs, 'host-a.key');
  const withImage = smallGuest('vm2', { imagePath });
  t.match(await answerOf(olga.call('vm.create', withImage)), { code: 'POLICY_DENIED' });
  const ofQemu = { driver: 'qemu', name: 'vm2', description: { memory: '1020K' } };
  t.match(await answerOf(olga.call('vm.create', ofQemu)), { code: 'REQUEST_INVALID' });
  ofQemu.description.memory = '131064K';
  t.match(await answerOf(olga.call('vm.create', ofQemu)), { code: 'POLICY_DENIED' });
  await daemon.api.call('vm.create', withImage);
  t.same((await olga.list()).map(({ name }) => name).toSorted(), ['vm1', 'vm2']);
  const large = dial(daemon, certs, 'olga');
  await once(large, 'open');
  large.send('x'.repeat(API_FRAME_BYTES_MAX + 1));
  t.equal(await closeCode(large), 1009, 'the same limit as at the socket');
  for (const [name, code] of [
    ['host-a', 'CERT_INVALID'],
    ['oscar', 'CERT_INVALID'],
    ['fired', 'CERT_REVOKED'],
  ] as const) {
    const socket = dial(daemon, certs, name);
    socket.on('error', () => undefined);
    const [, response] = (await once(socket, 'unexpected-response')) as [
      unknown,
      { statusCode: number; headers: Record<string, string> },
    ];
    t.match(response, { statusCode: 403, headers: { 'migd-code': code } }, name);
    socket.terminate();
  }
  olga.close();
});
