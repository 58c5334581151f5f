/**
 * What becomes of a migration whose connection broke in the rounds: it goes on, as often as it must, and
 * does not begin anew; or it cannot, ends with a code, and nothing is left of it.
 */
import { test } from 'tap';
import type { MigrationEvent } from '../../src/migration/report.ts';
import { Wire } from '../attack/wire.ts';
import { afterBytes, config, cutAll, IN_ROUND, inPhase, PACE, WRITING } from './breaking.ts';
import { smallGuest } from './cluster.ts';
import { answerOf, cancel, eventually, isClean, runsOn } from './refusal.ts';

const [HALF] = IN_ROUND;

void test('one cut at half of an idle guest: what arrived is not sent again', async (t) => {
  await using wire = await Wire.start({ channels: 2, config });
  const { a, b } = wire.cluster;
  const idle = { ...WRITING, workload: { kind: 'idle' } };
  await a.call('vm.create', smallGuest('vm', idle));
  const whole = await a.migrate('vm', 'host-b', { channels: 2 });
  await b.call('vm.delete', { name: 'vm' });
  await a.call('vm.create', smallGuest('vm', idle));
  const told: MigrationEvent[] = [];
  afterBytes(wire, HALF, () => cutAll(wire));
  const result = await a.migrate('vm', 'host-b', { ...PACE, channels: 2 }, (event) => {
    told.push(event);
  });
  t.match(result, { outcome: 'completed', verified: true, resumes: 1 });
  const [broken, ...others] = result.rounds;
  t.match(broken, { n: 0, isWhole: false });
  const brokenBytes = broken?.bytesSent ?? 0;
  t.ok(brokenBytes > whole.bytesSent / 4);
  // How much of it was on its way, and is sent again, a machine's speed decides: `npm run bench -- resume`.
  const againBytes = brokenBytes + whole.bytesSent;
  t.ok(result.bytesSent < againBytes, `${result.bytesSent}, from the start it were ${againBytes}`);
  t.ok(others.every(({ isWhole }) => isWhole));
  t.equal(
    result.bytesSent,
    result.rounds.reduce((sum, { bytesSent }) => sum + bytesSent, 0),
  );
  const phases = told.flatMap((event) => (event.event === 'phase' ? [event.phase] : []));
  t.same(phases.slice(2, 8), [
    'pre-copy',
    'reconnecting',
    'session',
    'attestation',
    'admission',
    'pre-copy',
  ]);
});

void test('a connection that breaks again and again', async (t) => {
  await using wire = await Wire.start({ channels: 2, config });
  const { a, b } = wire.cluster;
  await a.call('vm.create', smallGuest('vm', WRITING));
  const isAttesting = inPhase('attestation');
  let cuts = 0;
  const cut = (): void => {
    cuts += 1;
    cutAll(wire);
  };
  afterBytes(wire, HALF / 2, cut);
  const result = await a.migrate('vm', 'host-b', { ...PACE, channels: 2 }, (event) => {
    // In the middle of a round, and then in the middle of making the session anew.
    if (!isAttesting(event) || cuts % 2 === 0 || cuts >= 4) return;
    cut();
    if (cuts < 4) afterBytes(wire, HALF / 2, cut);
  });
  t.equal(cuts, 4);
  t.match(result, { outcome: 'completed', verified: true, resumes: 2 });
  t.equal((await b.check('vm')).badPages, 0);
  await runsOn(t, b, 'vm');
});

/** Where a migration that cannot go on ends. */
const SOON = { reconnectMs: 2_000, peerSilenceMs: 1_000 };

void test('a destination that is gone for good: the VM runs on, and a retry works', async (t) => {
  await using wire = await Wire.start({ config: { limits: SOON } });
  const { cluster } = wire;
  const { a } = cluster;
  await a.call('vm.create', smallGuest('vm', WRITING));
  const killed = Promise.withResolvers<void>();
  afterBytes(wire, HALF, () => {
    cluster.stopHost('host-b', 'SIGKILL').then(() => killed.resolve(), killed.reject);
  });
  const answer = await answerOf(a.migrate('vm', 'host-b', PACE));
  t.match(answer, { code: /^(?:PEER_CLOSED|CHANNEL_LOST)$/, detail: /not mended within 2000 ms/ });
  await killed.promise;
  await runsOn(t, a, 'vm');
  await wire.startHostB();
  await isClean(t, cluster, 'host-b', 'vm');
  t.match(await a.migrate('vm', 'host-b'), { outcome: 'completed', resumes: 0 });
});

void test('a destination that comes back with nothing gets all of it again', async (t) => {
  await using wire = await Wire.start({ config });
  const { cluster } = wire;
  await cluster.a.call('vm.create', smallGuest('vm', WRITING));
  const back = Promise.withResolvers<void>();
  afterBytes(wire, HALF, () => {
    cluster
      .stopHost('host-b', 'SIGKILL')
      .then(() => wire.startHostB())
      .then(() => back.resolve(), back.reject);
  });
  const result = await cluster.a.migrate('vm', 'host-b', PACE);
  await back.promise;
  t.match(result, { outcome: 'completed', verified: true, resumes: 1 });
  t.match(
    result.rounds.filter(({ n }) => n === 0).map(({ isWhole }) => isWhole),
    [false, true],
    'all of it again',
  );
  t.equal((await cluster.b.check('vm')).badPages, 0);
  await runsOn(t, cluster.b, 'vm');
});

void test('a network that is gone for good: both sides end it, each by itself', async (t) => {
  await using wire = await Wire.start({ config: { limits: SOON } });
  const { cluster } = wire;
  const { a } = cluster;
  await a.call('vm.create', smallGuest('vm', WRITING));
  afterBytes(wire, HALF, () => {
    for (const relay of wire.relays) relay.hold();
  });
  const answer = await answerOf(a.migrate('vm', 'host-b', PACE));
  t.match(answer, { code: 'PEER_SILENT' });
  await runsOn(t, a, 'vm');
  await isClean(t, cluster, 'host-b', 'vm');
  for (const relay of wire.relays) relay.release();
  t.match(await a.migrate('vm', 'host-b'), { outcome: 'completed' });
});

void test('cancelled while it waits: the VM runs on, and a retry need not wait', async (t) => {
  await using wire = await Wire.start({ config });
  const { cluster } = wire;
  const { a, b } = cluster;
  await a.call('vm.create', smallGuest('vm', WRITING));
  const waiting = Promise.withResolvers<string>();
  afterBytes(wire, HALF, () => {
    cutAll(wire);
    wire.control.hold();
  });
  const result = a.migrate('vm', 'host-b', PACE, (event) => {
    if (inPhase('reconnecting')(event)) waiting.resolve(event.migrationId);
  });
  const migrationId = await waiting.promise;
  await eventually('host-b holds what came', async () => {
    const status = await b.call<{ phase: string }[]>('status');
    return status.some(({ phase }) => phase === 'Holding');
  });
  await cancel(a, migrationId);
  t.match(await result, { outcome: 'cancelled', code: 'CANCELLED' });
  await runsOn(t, a, 'vm');
  wire.control.release();
  t.match(await a.migrate('vm', 'host-b'), { outcome: 'completed', resumes: 0 });
  await runsOn(t, b, 'vm');
});

void test('hosts of which one does not hold anything end it at once', async (t) => {
  await using wire = await Wire.start({ config: { limits: { reconnectMs: 0 } } });
  const { cluster } = wire;
  const { a } = cluster;
  await a.call('vm.create', smallGuest('vm', WRITING));
  afterBytes(wire, HALF, () => wire.control.cut());
  const result = await a.migrate('vm', 'host-b', PACE);
  t.match(result, { outcome: 'failed', code: 'PEER_CLOSED', resumes: 0 });
  await isClean(t, cluster, 'host-b', 'vm');
});

void test('a certificate that was revoked meanwhile opens no other session', async (t) => {
  await using wire = await Wire.start({ config });
  const { cluster } = wire;
  const { a } = cluster;
  await a.call('vm.create', smallGuest('vm', WRITING));
  const hostA = cluster.get('host-a');
  let tries = 0;
  afterBytes(wire, HALF, () => {
    cutAll(wire);
    wire.control.hold();
    cluster.pki.revoke('host-b');
    hostA.process.kill('SIGHUP');
  });
  const answer = await answerOf(
    a.migrate('vm', 'host-b', PACE, (event) => {
      if (!inPhase('reconnecting')(event)) return;
      tries += 1;
      // A try that began before the list was read anew does not get through.
      if (tries > 1 && hostA.log.some((line) => line.includes('read anew'))) wire.control.release();
    }),
  );
  t.match(answer, { code: 'CERT_REVOKED' });
  await runsOn(t, a, 'vm');
});
