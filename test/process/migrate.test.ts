/** One real migration, end to end, between two real daemons. */
import { verify, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'tap';
import type { MigrationEvent } from '../../src/migration/report.ts';
import { ALL_SUITE_NAMES, CHANNEL_FORMS } from '../../src/protocol/options.ts';
import { Cluster, filesBelow, smallGuest } from './cluster.ts';

void test('every suite, the legacy ones where both hosts name them, in every form and engine', async (t) => {
  const named = { suites: ALL_SUITE_NAMES };
  await using cluster = await Cluster.start({
    'host-a': { config: { ...named, engine: 'native' } },
    'host-b': { config: { ...named, engine: 'portable' } },
  });
  const hosts = [cluster.a, cluster.b];
  // Idle: the slowest suite is slower than what another guest may write.
  await cluster.a.call('vm.create', smallGuest('vm', { workload: { kind: 'idle' } }));
  let from = 0;
  for (const suite of ALL_SUITE_NAMES) {
    for (const form of CHANNEL_FORMS) {
      const to = ['host-b', 'host-a'][from] ?? '';
      const result = await hosts[from]?.migrate('vm', to, { suite, form, verify: true });
      const engine = ['native', 'portable'][from];
      t.match(result, { code: null, suite, form, engine, verified: true }, `${suite}, ${form}`);
      from = 1 - from;
      t.equal((await hosts[from]?.check('vm'))?.badPages, 0);
    }
  }
});

void test('a running guest moves with its vTPM and nothing stays behind', async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  await a.call('vm.create', smallGuest('vm1', { vcpus: 2 }));
  const before = await a.show('vm1');
  const events: MigrationEvent[] = [];
  const result = await a.migrate('vm1', 'host-b', { verify: true }, (event) => events.push(event));

  t.match(result, {
    outcome: 'completed',
    code: null,
    verified: true,
    from: 'host-a',
    to: 'host-b',
    attestation: {
      source: { format: 'software', verdict: 'accepted' },
      destination: { format: 'software', verdict: 'accepted' },
    },
    vtpm: { moved: true, deletedAtSource: true },
  });
  t.ok(result.rounds.length >= 2);
  t.equal(result.rounds[0]?.pages, 16 * 256, 'round 0 sends every page');
  t.ok((result.downtimeMs ?? 0) > 0);
  const phases = events.flatMap((event) => (event.event === 'phase' ? [event.phase] : []));
  t.same(phases, ['attestation', 'admission', 'pre-copy', 'stop-and-copy', 'handover', 'deletion']);

  t.match(await a.list(), [{ name: 'vm1', state: 'gone', movedTo: 'host-b' }]);
  t.match(await b.list(), [{ name: 'vm1', state: 'running', epoch: 2 }]);
  const check = await b.check('vm1');
  t.equal(check.badPages, 0);
  t.equal(check.versionSum, check.registerSum);
  const after = await b.show('vm1');
  t.same(pcr(after, 0), pcr(before, 0), 'the PCRs continue');
  t.ok(pcr(after, 16));
  t.ok(writes(after) >= writes(before), 'the guest goes on where it was');

  const { stateDir, memoryDir } = cluster.get('host-a');
  t.same(filesBelow(`${stateDir}/vms`), [], 'no vTPM state at the source');
  t.same(filesBelow(memoryDir), [], 'no memory at the source');

  const certificate = result.vtpm.deletionCertificate;
  const { publicKey } = new X509Certificate(readFileSync(`${cluster.certs}/host-a.crt`));
  t.ok(
    certificate !== null &&
      verify(
        null,
        Buffer.from(certificate.statementBase64, 'base64'),
        publicKey,
        Buffer.from(certificate.signatureBase64, 'base64'),
      ),
    'the deletion certificate verifies with nothing but the host’s certificate',
  );
});

void test('there and back again: epochs go up, the guest is whole', async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  await a.call('vm.create', smallGuest('vm1'));
  for (const [from, to] of [
    [a, 'host-b'],
    [b, 'host-a'],
    [a, 'host-b'],
  ] as const) {
    t.match(await from.migrate('vm1', to), { outcome: 'completed' });
  }
  t.match(await b.list(), [{ name: 'vm1', state: 'running', epoch: 4 }]);
  t.equal((await b.check('vm1')).badPages, 0);
});

void test('every suite, one to three channels, both kinds of dirty tracking', async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  const ways = [
    { suite: 'aes-256-gcm+hmac-sha256', channels: 3, dirtyTracking: 'uffd' },
    { suite: 'aes-256-ctr+hmac-sha256', channels: 1, dirtyTracking: 'log' },
    { suite: 'chacha20-poly1305+hmac-sha256', channels: 2, dirtyTracking: 'auto' },
  ];
  for (const [i, { suite, channels, dirtyTracking }] of ways.entries()) {
    const vm = `vm${i}`;
    await a.call('vm.create', smallGuest(vm, { dirtyTracking }));
    const result = await a.migrate(vm, 'host-b', { suite, channels, verify: true });
    t.match(result, { outcome: 'completed', suite, channels, verified: true });
    t.equal((await b.check(vm)).badPages, 0, suite);
  }
});

const pcr = (detail: { guest: Readonly<Record<string, unknown>> | null }, index: number): unknown =>
  (detail.guest?.['pcrs'] as Record<string, string> | undefined)?.[index];
const writes = (detail: { guest: Readonly<Record<string, unknown>> | null }): number =>
  (detail.guest?.['registers'] as { writes: number } | undefined)?.writes ?? 0;
