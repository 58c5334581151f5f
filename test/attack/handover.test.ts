/**
 * A host with the very certificate of the other end lies on the links of a handover, and others try
 * to be heard. Nothing settles a handover but the other host's own word.
 */
import { randomBytes } from 'node:crypto';
import { test } from 'tap';
import {
  sayActivated,
  sayDeleted,
  sayReceipt,
  sayToken,
  type Say,
} from '../../src/protocol/handover/matter.ts';
import type { Subject } from '../../src/protocol/statement.ts';
import { isClean, runsOn } from '../process/refusal.ts';
import { destinationAborted, HostileLink, matterOf, sourceAborted } from './hostile-link.ts';
import {
  askNow,
  destinationInDoubt,
  isKept,
  kill,
  settles,
  sourceInDoubt,
  VM,
} from './in-doubt.ts';

const OTHER = '01890000-0000-7000-8000-000000000000';
const signature = randomBytes(64);

void test('a source in doubt believes nothing but its destination', async (t) => {
  await using it = await sourceInDoubt();
  const { subject, digest } = it;
  const { migrationId } = subject;
  const lies: Record<string, (link: HostileLink) => void> = {
    'it does not know': (link) => link.send({ type: 'UNKNOWN' }),
    'an unsigned abort': (link) => {
      link.send({ type: 'ABORT', code: 'STATE_LOST', detail: '', signature });
    },
    'the abort of another migration': (link) => link.say(destinationAborted(OTHER)),
    'an abort of the source’s': (link) => link.say(sourceAborted(migrationId)),
    'an unsigned activation': (link) => link.send({ type: 'ACTIVATED', final: null, signature }),
    'an activation of another epoch': (link) =>
      link.say(sayActivated({ subject: { ...subject, epoch: 9 } })),
    'a receipt for another transcript': (link) =>
      link.say(sayReceipt(matterOf(subject, randomBytes(48)))),
    'a deletion': (link) =>
      link.send({
        type: 'DELETED',
        deletion: { stateDigest: digest, filesDestroyed: 1, bytesOverwritten: 1 },
        signature,
      }),
    'what is no word': (link) => link.send({ type: 'ROUND_OK', round: 0 }),
  };
  for (const [what, lie] of Object.entries(lies)) {
    await t.test(what, async (t) => {
      const link = await askNow(it);
      await link.expect('SURRENDER');
      lie(link);
      await isKept(t, it, 'held');
      link.close();
    });
  }
  await t.test('another host is not heard', async (t) => {
    const link = await HostileLink.connect(it.cluster, 'host-c', 'host-a');
    link.send({ type: 'RESOLVE', migrationId });
    link.say(destinationAborted(migrationId));
    t.equal(await link.next(), undefined);
    await isKept(t, it, 'held');
  });
  await t.test('one that asks about nothing is told so', async (t) => {
    const link = await HostileLink.connect(it.cluster, 'host-c', 'host-a');
    link.send({ type: 'RESOLVE', migrationId: OTHER });
    t.match(await link.next(), { type: 'UNKNOWN' });
    t.equal(await link.next(), undefined);
  });
  await t.test(
    'the destination asks: the token again; it runs there: all is destroyed',
    async (t) => {
      const link = await HostileLink.connect(it.cluster, 'host-b', 'host-a');
      link.send({ type: 'RESOLVE', migrationId });
      link.say(sayReceipt(matterOf(subject, digest)));
      await link.expect('SURRENDER');
      link.say(sayActivated({ subject }));
      const { deletion } = await link.expect('DELETED');
      t.equal(deletion.filesDestroyed, 2);
      await settles(t, it, { state: 'gone', outcome: 'completed', code: null });
      await isClean(t, it.cluster, 'host-a', VM);
      const again = await HostileLink.connect(it.cluster, 'host-b', 'host-a');
      again.send({ type: 'RESOLVE', migrationId });
      again.say(sayActivated({ subject }));
      t.same((await again.expect('DELETED')).deletion, deletion, 'said again, the same');
    },
  );
});

void test('a destination that lost what it held: the source takes its VM back', async (t) => {
  await using it = await sourceInDoubt();
  const link = await it.links.asked(it.subject.migrationId);
  link.say(destinationAborted(it.subject.migrationId));
  await settles(t, it, { state: 'aborted', outcome: 'failed', code: 'STATE_LOST' });
  t.match(
    await it.api.show(VM),
    { state: 'running', epoch: 3 },
    'with an epoch nobody was promised',
  );
  await runsOn(t, it.api, VM);
  await t.test('and what was promised is not to be had any more', async (t) => {
    const late = await HostileLink.connect(it.cluster, 'host-b', 'host-a');
    late.send({ type: 'RESOLVE', migrationId: it.subject.migrationId });
    late.say(sayReceipt(matterOf(it.subject, it.digest)));
    t.match(await late.next(), { type: 'ABORT' });
  });
});

void test('a destination in doubt believes nothing but its source', async (t) => {
  await using it = await destinationInDoubt();
  const { subject, digest, links } = it;
  const { migrationId } = subject;
  const matter = matterOf(subject, digest);
  const lies: Record<string, (link: HostileLink) => void> = {
    'it does not know': (link) => link.send({ type: 'UNKNOWN' }),
    'an unsigned token': (link) => link.send({ type: 'SURRENDER', signature }),
    'the token of another transcript': (link) =>
      link.say(sayToken(matterOf(subject, randomBytes(48)))),
    'the token of another epoch': (link) =>
      link.say(sayToken(matterOf({ ...subject, epoch: 2 }, digest))),
    'an unsigned abort': (link) => {
      link.send({ type: 'ABORT', code: 'CANCELLED', detail: '', signature });
    },
    'the abort of another migration': (link) => link.say(sourceAborted(OTHER)),
    'an abort of the destination’s': (link) => link.say(destinationAborted(migrationId)),
    'a deletion': (link) => link.say(deleted(subject)),
  };
  for (const [what, lie] of Object.entries(lies)) {
    await t.test(what, async (t) => {
      const link = await askNow(it);
      await link.expect('DONE');
      lie(link);
      await isKept(t, it, 'incoming');
      link.close();
    });
  }
  await t.test('another host is not heard', async (t) => {
    const link = await HostileLink.connect(it.cluster, 'host-c', 'host-b');
    link.send({ type: 'RESOLVE', migrationId });
    link.say(sayToken(matter));
    t.equal(await link.next(), undefined);
    await isKept(t, it, 'incoming');
  });
  await t.test('it is not to be deleted, resumed or migrated meanwhile', async (t) => {
    for (const method of ['vm.delete', 'vm.resume', 'vm.pause'] as const) {
      await t.rejects(it.api.call(method, { name: it.vm }), { code: /VM_STATE|VM_MIGRATING/ });
    }
    await t.rejects(it.api.migrate(it.vm, 'host-a'), { code: 'VM_STATE' });
  });
  await t.test('a daemon that is killed and comes back is still in doubt', async (t) => {
    await it.cluster.stopHost('host-b', 'SIGKILL');
    await it.cluster.startHost('host-b');
    const link = await askNow(it);
    await link.expect('DONE');
    t.match(await it.cluster.b.show(it.vm), { guest: { state: 'incoming' } });
  });
  await t.test('with the token it runs, and says so until the certificate comes', async (t) => {
    const link = await HostileLink.connect(it.cluster, 'host-a', 'host-b');
    link.send({ type: 'RESOLVE', migrationId });
    link.say(sayToken(matter));
    await link.expect('ACTIVATED');
    t.match(await it.cluster.b.show(it.vm), { state: 'running', epoch: 2 });
    link.send({
      type: 'DELETED',
      deletion: { stateDigest: digest, filesDestroyed: 0, bytesOverwritten: 0 },
      signature,
    });
    t.equal(await link.next(), undefined, 'one that is not signed is none');
    const next = await links.asked(migrationId);
    await next.expect('ACTIVATED');
    next.say(deleted(subject));
    t.equal(await next.next(), undefined, 'nothing is left to say');
  });
});

void test('the source did not surrender: the destination destroys what it holds', async (t) => {
  await using it = await destinationInDoubt();
  const { migrationId } = it.subject;
  const link = await it.links.asked(migrationId);
  link.say(sourceAborted(migrationId));
  await settles(t, it, { state: 'aborted' });
  await isClean(t, it.cluster, 'host-b', it.vm);
  const late = await HostileLink.connect(it.cluster, 'host-a', 'host-b');
  late.send({ type: 'RESOLVE', migrationId });
  late.say(sayToken(matterOf(it.subject, it.digest)));
  t.match(await late.next(), { type: 'ABORT' }, 'a token that comes later is of no use');
  await isClean(t, it.cluster, 'host-b', it.vm);
});

void test('a prepared guest that dies is given up, on record and in words', async (t) => {
  await using it = await destinationInDoubt();
  const { memoryDir } = it.cluster.get('host-b');
  kill(`${memoryDir}/${it.vm}`);
  await settles(t, it, { state: 'aborted', code: 'STATE_LOST' });
  const link = await HostileLink.connect(it.cluster, 'host-a', 'host-b');
  link.send({ type: 'RESOLVE', migrationId: it.subject.migrationId });
  link.say(sayToken(matterOf(it.subject, it.digest)));
  t.match(await link.next(), { type: 'ABORT', code: 'STATE_LOST' });
  await isClean(t, it.cluster, 'host-b', it.vm);
});

const deleted = (subject: Subject): Say =>
  sayDeleted(subject, { stateDigest: randomBytes(48), filesDestroyed: 2, bytesOverwritten: 2 });
