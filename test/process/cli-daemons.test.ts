/** Which daemon `migctl` asks: on this machine or elsewhere, by name, address, flag or environment. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import { Cluster, freePort } from './cluster.ts';
import { migctl, toldError } from './migctl.ts';

void test('which daemon is asked', async (t) => {
  await using cluster = Cluster.empty();
  for (const name of ['host-a', 'host-b']) cluster.pki.issue(name, 'host');
  cluster.pki.issue('operator', 'operator');
  cluster.pki.issue('left', 'operator');
  cluster.pki.revoke('left');
  const at = `127.0.0.1:${await freePort()}`;
  Object.assign(cluster.peers, {
    'host-a': `127.0.0.1:${await freePort()}`,
    'host-b': at,
    'host-y': at,
    'host-z': `127.0.0.1:${await freePort()}`,
  });
  const hostOf = async (words: string, env = {}) => {
    const ended = await migctl(cluster, `${words} hosts`, env);
    t.equal(ended.err, '', words);
    return /^(\S+) \(this one\)/m.exec(ended.out)?.[1];
  };

  mkdirSync(path.join(cluster.dir, 'state', 'old'), { recursive: true });
  writeFileSync(path.join(cluster.dir, 'state', 'old', 'migd.sock'), '');
  t.match(await migctl(cluster, 'hosts'), { exit: 6, err: toldError('NO_DAEMON') });
  await cluster.startHost('host-b');
  t.equal(await hostOf(''), 'host-b', 'the only one, beside a dead one’s socket');
  await cluster.startHost('host-a');
  const several = await migctl(cluster, 'hosts');
  t.match(several, { exit: 2, err: toldError('USAGE') });
  t.match(several.err, /choose with --host: host-a \(both\), host-b \(both\)/);

  t.equal(await hostOf('--host host-b'), 'host-b', 'by name, here');
  t.equal(await hostOf('--host host-z --host host-b'), 'host-b', 'the last one counts');
  t.equal(await hostOf('--socket state/host-b/migd.sock'), 'host-b');
  t.equal(await hostOf('--state-dir state/host-b'), 'host-b');
  t.equal(await hostOf('', { MIGD_HOST: 'host-b' }), 'host-b');
  t.equal(await hostOf('', { MIGD_SOCKET: 'state/host-b/migd.sock' }), 'host-b');
  t.equal(await hostOf('', { MIGD_STATE_DIR: 'state/host-b' }), 'host-b');
  t.equal(await hostOf('--host host-a', { MIGD_HOST: 'host-b' }), 'host-a', 'flags come first');
  t.equal(await hostOf(`--host ${at}`), 'host-b', 'by address, over TLS');
  t.equal(await hostOf('--state-dir state/host-a --host host-b'), 'host-b', 'as host-a knows it');

  const elsewhere = t.testdir({});
  const remote = (words: string, env = {}) =>
    migctl({ dir: elsewhere }, `--host ${at} ${words} hosts`, env);
  t.match(await remote(`--certs ${cluster.certs}`), { exit: 0, out: /^host-b \(this one\)/m });
  t.match(await remote('', { MIGD_CERTS: cluster.certs }), { exit: 0 });
  for (const [words, exit, code] of [
    ['', 2, 'PKI_MISSING'],
    [`--certs ${cluster.certs} --operator nobody`, 2, 'PKI_MISSING'],
    [`--certs ${cluster.certs} --operator host-a`, 3, 'CERT_INVALID'],
    [`--certs ${cluster.certs} --operator left`, 3, 'CERT_REVOKED'],
  ] as const) {
    t.match(await remote(words), { exit, out: '', err: toldError(code) }, words);
  }
  const as = { MIGD_CERTS: cluster.certs, MIGD_OPERATOR: 'host-a' };
  t.match(await remote('', as), { exit: 3, err: toldError('CERT_INVALID') });
  for (const [host, exit, code] of [
    ['host-x', 1, 'HOST_UNKNOWN'],
    ['host-y', 3, 'PEER_WRONG'],
    ['host-z', 6, 'NO_DAEMON'],
    [cluster.peers['host-z'] ?? '', 6, 'NO_DAEMON'],
  ] as const) {
    const ended = await migctl(cluster, `--host ${host} hosts`);
    t.match(ended, { exit, out: '', err: toldError(code) }, host);
  }
});
