/** Every request for a migration that is refused by the source itself. */
import { test } from 'tap';
import { Cluster, smallGuest } from './cluster.ts';
import { answerOf, cancel, isClean, runsOn, slowly, survives, type Attempt } from './refusal.ts';

void test('a request that cannot be', async (t) => {
  await using cluster = await Cluster.start({ 'host-d': { config: { role: 'dest' } } });
  const { a } = cluster;
  const refused = (name: string, attempt: Attempt) =>
    t.test(name, (t) => survives(t, cluster, attempt));

  await t.test('an unknown VM', async (t) => {
    t.match(await answerOf(a.migrate('nobody', 'host-b')), { code: 'VM_UNKNOWN' });
  });
  await refused('an unknown host', {
    attempt: (vm) => a.migrate(vm, 'nowhere'),
    code: 'HOST_UNKNOWN',
  });
  await refused('source = destination', {
    attempt: (vm) => a.migrate(vm, 'host-a'),
    code: 'HOST_SELF',
  });
  for (const options of [
    { suite: 'rot13' },
    { mode: 'telepathy' },
    { channels: 0 },
    { channels: 17 },
    { downtimeLimitMs: -1 },
    { maxBandwidthBps: 0 },
    { timeoutMs: '5m' },
    { roundsMax: 1.5 },
    { colour: 'red' },
  ]) {
    await t.test(`options ${JSON.stringify(options)}`, async (t) => {
      t.match(await answerOf(a.migrate('vm', 'host-b', options)), { code: 'REQUEST_INVALID' });
    });
  }
  await t.test('a VM that moved away is unknown, and it is said where it went', async (t) => {
    await a.call('vm.create', smallGuest('mover'));
    t.match(await a.migrate('mover', 'host-b'), { outcome: 'completed' });
    t.match(await answerOf(a.migrate('mover', 'host-b')), {
      code: 'VM_UNKNOWN',
      detail: 'mover moved to host-b',
    });
  });
  await t.test('a daemon of role dest sends nothing', async (t) => {
    const { api } = cluster.get('host-d');
    await api.call('vm.create', smallGuest('stays'));
    t.match(await answerOf(api.migrate('stays', 'host-b')), { code: 'ROLE_REFUSED' });
    await runsOn(t, api, 'stays');
    await isClean(t, cluster, 'host-b', 'stays');
  });
  await t.test('a VM that is being migrated takes no second request', async (t) => {
    let first: Awaited<ReturnType<typeof slowly>> | undefined;
    await survives(t, cluster, {
      attempt: async (vm) => {
        first = await slowly(a, vm, 'host-b');
        for (const method of ['vm.delete', 'vm.pause', 'vm.resume'] as const) {
          t.match(await answerOf(a.call(method, { name: vm })), { code: 'VM_MIGRATING' }, method);
        }
        return a.migrate(vm, 'host-b');
      },
      code: 'VM_MIGRATING',
      mend: async () => {
        await cancel(a, first?.migrationId ?? '');
        t.match(await first?.result, { outcome: 'cancelled' }, 'the first went on till cancelled');
      },
    });
  });
});

void test('a source that may not send it so', async (t) => {
  await using cluster = await Cluster.start({
    'host-a': { config: { suites: ['chacha20-poly1305+hmac-sha256'], forms: ['tls'] } },
    'host-strict': { config: { attestation: { allow: [] } } },
  });
  await t.test('its own configuration forbids the suite', (t) =>
    survives(t, cluster, {
      attempt: (vm) => cluster.a.migrate(vm, 'host-b', { suite: 'aes-256-gcm+hmac-sha256' }),
      code: 'SUITE_MISMATCH',
    }),
  );
  await t.test('a legacy suite that no configuration names', (t) =>
    survives(t, cluster, {
      attempt: (vm) => cluster.a.migrate(vm, 'host-b', { suite: 'none' }),
      code: 'SUITE_MISMATCH',
    }),
  );
  await t.test('its own configuration forbids the form', (t) =>
    survives(t, cluster, {
      attempt: (vm) => cluster.a.migrate(vm, 'host-b', { form: 'sealed' }),
      code: 'FORM_MISMATCH',
    }),
  );
  await t.test('its own policy accepts no evidence', async (t) => {
    const { api } = cluster.get('host-strict');
    await api.call('vm.create', smallGuest('strict'));
    t.match(await api.migrate('strict', 'host-b'), { outcome: 'refused', code: 'ATT_FORMAT' });
    await runsOn(t, api, 'strict');
    await isClean(t, cluster, 'host-b', 'strict');
  });
});
