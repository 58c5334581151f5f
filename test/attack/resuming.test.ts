/**
 * Who lies when a session is made anew: another host that wants what is held, a source that goes on
 * with something else, a destination that says it holds what was never sent. Each is refused by its
 * code; what is held stays for its own source, and the VM runs on.
 */
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import type { MigrationEvent } from '../../src/migration/report.ts';
import type { MessageOf } from '../../src/protocol/messages.ts';
import { Cluster, freePort, smallGuest } from '../process/cluster.ts';
import { eventually, runsOn } from '../process/refusal.ts';
import { HostileDestination } from './hostile-destination.ts';
import { HostileSource } from './hostile-source.ts';
import { Verdicts } from './verdicts.ts';

const limits = { reconnectMs: 20_000 };

/** host-b holds round 0 of what `source` sent when its connection broke. */
async function broken(cluster: Cluster, verdicts: Verdicts): Promise<HostileSource> {
  const source = await HostileSource.connect(cluster, 'host-c');
  source.features = ['resume'];
  const sender = await source.firstRound();
  source.socket.terminate();
  await sender.close();
  await isHeld(cluster);
  // What it was to host-b so far is not over.
  if (verdicts.count > 0) throw new Error('it was given up');
  return source;
}

const isHeld = (cluster: Cluster) =>
  eventually('host-b holds it', async () => {
    const status = await cluster.b.call<{ phase: string }[]>('status');
    return status.some(({ phase }) => phase === 'Holding');
  });

/** The next session of `before`, as its own source makes it: what host-b says it holds. */
async function goesOn(
  cluster: Cluster,
  before: HostileSource,
): Promise<{ next: HostileSource; accept: MessageOf<'ACCEPT'> }> {
  const next = await HostileSource.connect(cluster, 'host-c', before);
  next.features = ['resume'];
  await next.attest();
  next.send(next.offer());
  return { next, accept: await next.expect('ACCEPT') };
}

const start = () => Cluster.start({ 'host-b': { config: { limits } }, 'host-c': {}, 'host-d': {} });

type Attack = (cluster: Cluster, before: HostileSource) => Promise<HostileSource>;

const withOffer =
  (changes: object, more: object = {}): Attack =>
  async (cluster, before) => {
    const next = await HostileSource.connect(cluster, 'host-c', before);
    next.features = ['resume'];
    await next.attest();
    next.send(next.offer(changes, more));
    const { code } = await next.expect('REFUSED');
    if (code !== 'TRANSCRIPT_MISMATCH') throw new Error(code);
    return next;
  };

void test('what is held is for its own source, with its own VM', async (t) => {
  const attacks: Readonly<Record<string, readonly [code: string, attack: Attack]>> = {
    'another host with its id': [
      'MESSAGE_MALFORMED',
      async (cluster, before) => {
        const other = await HostileSource.connect(cluster, 'host-d', before);
        other.send(other.hello({ features: ['resume'] }));
        return other;
      },
    ],
    'another name': ['TRANSCRIPT_MISMATCH', withOffer({ name: 'other' })],
    'more memory': ['TRANSCRIPT_MISMATCH', withOffer({ regions: [{ id: 0, bytes: 2 * MiB }] })],
    'another epoch': ['TRANSCRIPT_MISMATCH', withOffer({}, { epoch: 2 })],
    'nothing to be verified any more': ['TRANSCRIPT_MISMATCH', withOffer({}, { verify: true })],
    'evidence of another connection': [
      'ATT_NONCE_MISMATCH',
      async (cluster, before) => {
        const next = await HostileSource.connect(cluster, 'host-c', before);
        next.features = ['resume'];
        const elsewhere = await HostileSource.connect(cluster, 'host-c');
        const evidence = await elsewhere.evidence(await next.challenge());
        await elsewhere[Symbol.asyncDispose]();
        next.send({ type: 'SVR_ATT_OK', evidence });
        return next;
      },
    ],
  };
  for (const [what, [code, attack]] of Object.entries(attacks)) {
    await t.test(what, async (t) => {
      await using cluster = await start();
      const verdicts = new Verdicts(cluster);
      await using source = await broken(cluster, verdicts);
      await using attacker = await attack(cluster, source);
      await attacker.ended();
      await eventually('it was refused', async () => verdicts.has(code));
      await isHeld(cluster);
      const { next, accept } = await goesOn(cluster, source);
      await using _next = next;
      t.same(accept.resume, { round: 1, accepted: [0] });
    });
  }
});

void test('a session that goes on is no licence for the one before, nor for another past', async (t) => {
  await using cluster = await start();
  await using source = await broken(cluster, new Verdicts(cluster));
  const { next, accept } = await goesOn(cluster, source);
  await using _next = next;
  // The old session's keys open no channel of the new one.
  await t.rejects(source.join(accept.ports), { code: 'CHANNEL_JOIN' });
  // Honest but for what went before: its transcript begins as if nothing had.
  const sender = await next.join(accept.ports);
  const { pages, zeroPages, bytesSent: bytes, tag } = await sender.sendRound(2, 'all');
  next.send({ type: 'ROUND_END', round: 2, pages, zeroPages, bytes, tag });
  t.match(await next.expect('ABORT'), { code: 'TRANSCRIPT_MISMATCH' });
});

void test('a source that begins a round that it may not: RECORD_ORDER', async (t) => {
  await using cluster = await start();
  await using source = await broken(cluster, new Verdicts(cluster));
  const { next, accept } = await goesOn(cluster, source);
  await using _next = next;
  const sender = await next.join(accept.ports);
  // Round 0 again, in memory that is not fresh any more.
  sender.sendRound(0, 'all').catch(() => undefined);
  t.match(await next.expect('ABORT'), { code: 'RECORD_ORDER' });
});

void test('a destination that says it holds what it does not', async (t) => {
  const cluster = Cluster.empty();
  await using _cluster = cluster;
  for (const name of ['host-a', 'host-b']) cluster.pki.issue(name, 'host');
  cluster.peers['host-a'] = `127.0.0.1:${await freePort()}`;
  await using destination = await HostileDestination.start(cluster);
  await cluster.startHost('host-a', { config: { limits } });
  const { a } = cluster;
  await a.call('vm.create', smallGuest('vm1', { memoryBytes: 4 * MiB }));

  const claims: Readonly<Record<string, MessageOf<'ACCEPT'>['resume']>> = {
    'more than was sent': { round: 0, accepted: [1025] },
    'of more channels': { round: 0, accepted: [1, 1] },
    'of a round that was not sent': { round: 1, accepted: [1] },
    'of a later round': { round: 7, accepted: [0] },
  };
  for (const [what, resume] of Object.entries(claims)) {
    await t.test(what, async (t) => {
      const sending = Promise.withResolvers<void>();
      const migration = a.migrate('vm1', 'host-b', { maxBandwidthBps: MiB }, (event) => {
        if (isSending(event)) sending.resolve();
      });
      await using first = await destination.session();
      first.features = ['resume'];
      await first.accepted();
      await sending.promise;
      first.conversation.close();
      await using second = await destination.session();
      second.features = ['resume'];
      await second.accepted(resume);
      t.match(await second.expect('ABORT'), { code: 'TRANSCRIPT_MISMATCH' });
      t.match(await migration, { outcome: 'failed', code: 'TRANSCRIPT_MISMATCH' });
      await runsOn(t, a, 'vm1');
    });
  }
  await t.test('in a first session', async (t) => {
    const migration = a.migrate('vm1', 'host-b');
    await using session = await destination.session();
    session.features = ['resume'];
    await session.accepted({ round: 0, accepted: [0] });
    t.match(await migration, { outcome: 'failed', code: 'TRANSCRIPT_MISMATCH' });
    await runsOn(t, a, 'vm1');
  });
  await t.test('a refusal in a later session ends it at once', async (t) => {
    const sending = Promise.withResolvers<void>();
    const migration = a.migrate('vm1', 'host-b', { maxBandwidthBps: MiB }, (event) => {
      if (isSending(event)) sending.resolve();
    });
    await using first = await destination.session();
    first.features = ['resume'];
    await first.accepted();
    await sending.promise;
    first.conversation.close();
    await using second = await destination.session();
    await second.offered();
    second.send({ type: 'REFUSED', code: 'DEST_CAPACITY', detail: '' });
    t.match(await migration, { outcome: 'refused', code: 'DEST_CAPACITY' });
    await runsOn(t, a, 'vm1');
  });
});

const isSending = (event: MigrationEvent): boolean =>
  event.event === 'progress' && event.sentBytes > 0;
