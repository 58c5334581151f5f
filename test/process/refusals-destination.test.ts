/** Every destination that cannot be reached or does not take the VM. */
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import { ALL_SUITE_NAMES } from '../../src/protocol/options.ts';
import { Cluster, freePort, smallGuest } from './cluster.ts';
import { answerOf, cancel, isClean, runsOn, slowly, survives, type Attempt } from './refusal.ts';

/** tcpmux (RFC 1078): a port that is free a moment ago may be another daemon's now. */
const NOBODY = '127.0.0.1:1';
const SILENCE_MS = 2_000;

/** Accepts connections and says nothing, as a host whose daemon hangs. */
async function muteServer(): Promise<{ address: string } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => undefined));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

void test('a destination that does not take it', async (t) => {
  await using mute = await muteServer();
  const dataPort = await freePort();
  await using cluster = await Cluster.start(
    {
      'host-a': {
        config: { suites: ALL_SUITE_NAMES, limits: { peerSilenceMs: SILENCE_MS } },
      },
      'host-full': { config: { limits: { memoryBytesMax: 8 * MiB } } },
      'host-busy': { config: { limits: { incomingMax: 1 } } },
      'host-narrow': {
        config: {
          suites: ['chacha20-poly1305+hmac-sha256'],
          forms: ['tls'],
          dataPorts: { from: dataPort, to: dataPort },
        },
      },
      'host-sender': { config: { role: 'source' } },
      'host-strict': { config: { attestation: { allow: [] } } },
    },
    { 'host-mute': mute.address, 'host-down': NOBODY },
  );
  const { a, b } = cluster;
  const refused = (name: string, attempt: Attempt) =>
    t.test(name, (t) => survives(t, cluster, attempt));
  const plainly = (to: string, code: string): Attempt => ({
    attempt: (vm) => a.migrate(vm, to),
    code,
    to,
    retryTo: 'host-b',
  });

  await refused('no memory there', plainly('host-full', 'DEST_CAPACITY'));
  await t.test('nor can more memory be had by making a VM there', async (t) => {
    const { api } = cluster.get('host-full');
    t.match(await answerOf(api.call('vm.create', smallGuest('big'))), { code: 'DEST_CAPACITY' });
    t.match(await api.call('vm.create', smallGuest('fits', { memoryBytes: 8 * MiB })), {
      state: 'running',
    });
  });
  await refused('a role that only sends', plainly('host-sender', 'ROLE_REFUSED'));
  await refused('a policy without software evidence', plainly('host-strict', 'ATT_FORMAT'));
  t.same(
    await cluster.get('host-strict').api.call('history'),
    [],
    'who was not appraised does not write on its disk',
  );
  await refused('nothing listens', plainly('host-down', 'PEER_UNREACHABLE'));
  await refused('it accepts and says nothing', {
    ...plainly('host-mute', 'PEER_UNREACHABLE'),
    answerMs: 2 * SILENCE_MS,
  });
  await refused('a suite that it does not allow', {
    attempt: (vm) => a.migrate(vm, 'host-narrow', { suite: 'aes-256-gcm+hmac-sha256' }),
    code: 'SUITE_MISMATCH',
    to: 'host-narrow',
  });
  await refused('a legacy suite, which it does not name', {
    attempt: (vm) => a.migrate(vm, 'host-b', { suite: '3des-cbc+hmac-sha1' }),
    code: 'SUITE_MISMATCH',
  });
  await refused('a form that it does not allow', {
    attempt: (vm) => a.migrate(vm, 'host-narrow', { form: 'sealed' }),
    code: 'FORM_MISMATCH',
    to: 'host-narrow',
  });
  await refused('more channels than it has ports', {
    attempt: (vm) => a.migrate(vm, 'host-narrow', { channels: 2 }),
    code: 'DEST_BUSY',
    to: 'host-narrow',
  });
  await t.test('the name is taken there', (t) =>
    survives(t, cluster, {
      attempt: async (vm) => {
        await b.call('vm.create', smallGuest(vm));
        return a.migrate(vm, 'host-b');
      },
      code: 'NAME_TAKEN',
      mend: async (vm) => {
        await runsOn(t, b, vm);
        await b.call('vm.delete', { name: vm });
      },
    }),
  );
  await t.test('too many incoming', async (t) => {
    await a.call('vm.create', smallGuest('first'));
    const first = await slowly(a, 'first', 'host-busy');
    await survives(t, cluster, {
      attempt: (vm) => a.migrate(vm, 'host-busy'),
      code: 'DEST_BUSY',
      to: 'host-busy',
      mend: async () => {
        await cancel(a, first.migrationId);
        t.match(await first.result, { outcome: 'cancelled' });
        await isClean(t, cluster, 'host-busy', 'first');
      },
    });
    await runsOn(t, a, 'first');
  });
});
