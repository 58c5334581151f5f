/** Who is let in: every wrong certificate, list and handshake, tried on real daemons both ways. */
import { chmodSync, copyFileSync, cpSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type Server } from 'node:https';
import { connect as connectTcp } from 'node:net';
import path from 'node:path';
import { connect, type ConnectionOptions } from 'node:tls';
import { test } from 'tap';
import { WebSocket } from 'ws';
import { PkiDirectory } from '../../src/crypto/pki/directory.ts';
import { loadIdentity } from '../../src/crypto/pki/identity.ts';
import { CONTROL_ALPN, clientOptions, serverOptions } from '../../src/transport/tls.ts';
import { Cluster, freePort, realPorts, smallGuest, type Daemon } from './cluster.ts';
import { answerOf, eventually, isClean, runsOn, survives } from './refusal.ts';

/** Longer than a connection that was refused lives. */
const CLING_MS = 5000;

/** Makes a daemon read its certificates anew and waits until it has. */
async function reread({ process: child, log, api }: Daemon): Promise<void> {
  const said = () => log.filter((line) => line.includes('read anew')).length;
  const before = said();
  child.kill('SIGHUP');
  await eventually('the certificates are read anew', async () => {
    await api.call('hello');
    return said() > before;
  });
}

/** What a WebSocket client with these TLS options is told at a daemon's door. */
async function knock(
  { listen }: Daemon,
  options: ConnectionOptions,
  at: string,
): Promise<string | undefined> {
  const socket = new WebSocket(`wss://${listen.host}:${listen.port}${at}`, {
    createConnection: () => connect({ ...options, ...listen }),
  });
  const told = Promise.withResolvers<string | undefined>();
  socket.on('open', () => told.resolve('open'));
  socket.on('unexpected-response', (_request, response) => {
    told.resolve(`${response.statusCode} ${String(response.headers['migd-code'])}`);
    socket.terminate();
  });
  socket.on('error', (error) => told.resolve('code' in error ? String(error.code) : error.message));
  return told.promise.finally(() => socket.terminate());
}

void test('a host that is not who it should be', async (t) => {
  await using cluster = Cluster.empty();
  const { pki, certs, dir, peers } = cluster;
  const foreign = PkiDirectory.init(path.join(dir, 'foreign'), realPorts);
  foreign.issue('host-f', 'host');
  for (const name of ['host-a', 'host-b', 'host-c']) pki.issue(name, 'host');
  pki.issue('host-e', 'host', -1000);
  pki.issue('olga', 'operator');
  const operated = await serveAs('olga', certs);
  for (const name of ['host-a', 'host-b', 'host-c', 'host-e', 'host-f']) {
    peers[name] = `127.0.0.1:${await freePort()}`;
  }
  // host-c answers where host-z should be, and an operator where host-o should be.
  peers['host-z'] = peers['host-c'] ?? '';
  peers['host-o'] = operated.address;
  await Promise.all([
    ...['host-a', 'host-b', 'host-c', 'host-e'].map((name) => cluster.startHost(name)),
    cluster.startHost('host-f', { certs: path.join(dir, 'foreign') }),
  ]);
  const { a } = cluster;

  await t.test('a valid certificate of another host', (t) =>
    survives(t, cluster, {
      attempt: (vm) => a.migrate(vm, 'host-z'),
      code: 'PEER_WRONG',
      to: 'host-c',
    }),
  );
  await t.test('an operator’s certificate in the place of a host’s', (t) =>
    survives(t, cluster, {
      attempt: (vm) => a.migrate(vm, 'host-o'),
      code: 'CERT_INVALID',
      to: 'host-b',
    }),
  );
  operated.server.close();
  await t.test('a destination of a foreign CA', (t) =>
    survives(t, cluster, {
      attempt: (vm) => a.migrate(vm, 'host-f'),
      code: 'CERT_INVALID',
      to: 'host-f',
      retryTo: 'host-b',
    }),
  );
  await t.test('a source of a foreign CA', async (t) => {
    const { api } = cluster.get('host-f');
    await api.call('vm.create', smallGuest('foreign'));
    t.match(await answerOf(api.migrate('foreign', 'host-b')), { code: 'CERT_INVALID' });
    await runsOn(t, api, 'foreign');
    await isClean(t, cluster, 'host-b', 'foreign');
  });
  await t.test('a source whose certificate has expired, until it has a new one', (t) =>
    survives(t, cluster, {
      from: 'host-e',
      attempt: (vm) => cluster.get('host-e').api.migrate(vm, 'host-b'),
      code: 'CERT_EXPIRED',
      mend: async () => {
        pki.issue('host-e', 'host');
        await reread(cluster.get('host-e'));
        pki.issue('host-e', 'host', -1000);
      },
    }),
  );
  await t.test('a destination whose certificate has expired, until it has a new one', async (t) => {
    await reread(cluster.get('host-e'));
    await survives(t, cluster, {
      attempt: (vm) => a.migrate(vm, 'host-e'),
      code: 'CERT_EXPIRED',
      to: 'host-e',
      mend: async () => {
        pki.issue('host-e', 'host');
        await reread(cluster.get('host-e'));
      },
    });
  });
});

void test('a revoked host is refused by whoever knows', async (t) => {
  await using cluster = Cluster.empty();
  const { pki, certs, peers, dir } = cluster;
  const names = ['host-a', 'host-b', 'host-r'];
  for (const name of names) {
    pki.issue(name, 'host');
    peers[name] = `127.0.0.1:${await freePort()}`;
  }
  const own = (name: string) => path.join(dir, `certs-${name}`);
  for (const name of names) cpSync(certs, own(name), { recursive: true });
  pki.revoke('host-r');
  // Only host-a has heard of it.
  copyFileSync(path.join(certs, 'ca.crl'), path.join(own('host-a'), 'ca.crl'));
  await Promise.all(names.map((name) => cluster.startHost(name, { certs: own(name) })));
  const { a, b } = cluster;
  const r = cluster.get('host-r').api;

  await t.test('who has not heard of it still takes its migrations', async (t) => {
    await b.call('vm.create', smallGuest('unheard'));
    t.match(await b.migrate('unheard', 'host-r'), { outcome: 'completed' });
  });
  await t.test('on the destination’s list only', async (t) => {
    t.match(await answerOf(r.migrate('unheard', 'host-a')), { code: 'CERT_REVOKED' });
    await runsOn(t, r, 'unheard');
    await isClean(t, cluster, 'host-a', 'unheard');
  });
  await t.test('on the source’s list only, until it has a new certificate', (t) =>
    survives(t, cluster, {
      attempt: (vm) => a.migrate(vm, 'host-r'),
      code: 'CERT_REVOKED',
      to: 'host-r',
      mend: async () => {
        pki.issue('host-r', 'host');
        for (const file of ['host-r.crt', 'host-r.key']) {
          copyFileSync(path.join(certs, file), path.join(own('host-r'), file));
        }
        await reread(cluster.get('host-r'));
      },
    }),
  );
  await t.test('a list read anew on SIGHUP', async (t) => {
    await b.call('vm.create', smallGuest('later'));
    pki.revoke('host-b');
    copyFileSync(path.join(certs, 'ca.crl'), path.join(own('host-r'), 'ca.crl'));
    await reread(cluster.get('host-r'));
    t.match(await answerOf(b.migrate('later', 'host-r')), { code: 'CERT_REVOKED' });
    await runsOn(t, b, 'later');
    await isClean(t, cluster, 'host-r', 'later');
    t.match(await b.migrate('later', 'host-a'), { outcome: 'completed' }, 'host-a knows nothing');
  });
});

/** A client that is refused and then neither closes its half nor stops writing: what ends it. */
async function clingTo({ listen }: Daemon, options: ConnectionOptions): Promise<string> {
  const socket = connectTcp({ ...listen, allowHalfOpen: true });
  const client = connect({ ...options, socket });
  await once(client, 'secureConnect');
  const ended = Promise.withResolvers<string>();
  client.on('error', (error) => ended.resolve(error.message)).on('close', () => ended.resolve(''));
  client.on('data', () => undefined);
  client.write(
    'GET /migrate HTTP/1.1\r\nHost: b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n\r\n',
  );
  const writing = setInterval(() => client.write('x'), 50);
  const patience = setTimeout(() => ended.resolve('nothing'), CLING_MS);
  try {
    return await ended.promise;
  } finally {
    clearInterval(writing);
    clearTimeout(patience);
    client.destroy();
  }
}

void test('clients that are no host', async (t) => {
  await using cluster = Cluster.empty();
  const { pki, certs, peers } = cluster;
  pki.issue('host-b', 'host');
  pki.issue('host-c', 'host');
  pki.issue('olga', 'operator');
  pki.issue('oscar', 'owner');
  peers['host-b'] = `127.0.0.1:${await freePort()}`;
  const daemon = await cluster.startHost('host-b');
  const as = (name: string) => clientOptions(loadIdentity(certs, name), CONTROL_ALPN);
  const { cert: _cert, key: _key, ...nobody } = as('host-c');

  t.equal(await knock(daemon, nobody, '/migrate'), '403 CERT_INVALID', 'no certificate');
  t.equal(await knock(daemon, nobody, '/api'), '403 CERT_INVALID', 'no certificate at /api');
  t.equal(await knock(daemon, as('olga'), '/migrate'), '403 CERT_INVALID', 'an operator');
  t.equal(await knock(daemon, as('oscar'), '/migrate'), '403 CERT_INVALID', 'an owner');
  t.equal(await knock(daemon, as('host-c'), '/elsewhere'), '403 CERT_INVALID', 'another path');
  t.equal(await knock(daemon, as('host-c'), '/migrate'), 'open', 'a host is let in');
  const old = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const;
  for (const [what, options, code] of [
    ['TLS 1.2', { ...old, ciphers: 'ECDHE-ECDSA-AES256-GCM-SHA384' }, 'UNSUPPORTED_PROTOCOL'],
    ['another protocol', { ALPNProtocols: ['h2'] }, 'NO_APPLICATION_PROTOCOL'],
    ['no common key agreement', { ecdhCurve: 'P-384' }, 'NO_SUITABLE_KEY_SHARE'],
    ['no common cipher', { ciphers: 'TLS_AES_128_CCM_SHA256' }, 'NO_SHARED_CIPHER'],
  ] as const) {
    const told = await knock(daemon, { ...as('host-c'), ...options }, '/migrate');
    t.match(told, /^(EPROTO|ERR_SSL_.*|ECONNRESET)$/, what);
    await eventually(`the log says ${code}`, async () => {
      await daemon.api.call('hello');
      return daemon.log.some((line) => line.includes(`ERR_SSL_${code}`));
    });
  }
  t.not(await clingTo(daemon, nobody), 'nothing', 'who was refused does not keep his place');
  t.same(await daemon.api.list(), [], 'nothing came of it');
});

void test('a daemon does not start with', async (t) => {
  await using cluster = Cluster.empty();
  const { pki, certs, peers } = cluster;
  pki.issue('olga', 'operator');
  pki.issue('host-k', 'host');
  for (const name of ['host-k', 'olga', 'host-n']) peers[name] = '127.0.0.1:1';
  await t.rejects(cluster.startHost('olga'), /ended with 3: .*CERT_INVALID/, 'no host’s identity');
  await t.rejects(cluster.startHost('host-n'), /ended with 2: .*PKI_MISSING/, 'no certificate');
  chmodSync(path.join(certs, 'host-k.key'), 0o640);
  await t.rejects(
    cluster.startHost('host-k'),
    /ended with 2: .*PKI_MISSING.*chmod 600/,
    'a key that others can read',
  );
});

/** A TLS server with somebody's certificate that would upgrade whatever comes. */
async function serveAs(name: string, certs: string): Promise<{ server: Server; address: string }> {
  const server = createServer(serverOptions(loadIdentity(certs, name), CONTROL_ALPN));
  const port = await freePort();
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return { server, address: `127.0.0.1:${port}` };
}
