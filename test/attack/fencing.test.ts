/**
 * What an operator's statement that the other host was fenced does to a handover in doubt, what is
 * kept of it, and what becomes of it when both hosts are back.
 */
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import {
  sayAborted,
  sayActivated,
  sayToken,
  type Say,
} from '../../src/protocol/handover/matter.ts';
import { smallGuest } from '../process/cluster.ts';
import { migctl } from '../process/migctl.ts';
import { eventually, isClean, runsOn } from '../process/refusal.ts';
import { HostileDestination } from './hostile-destination.ts';
import { HostileLink, matterOf } from './hostile-link.ts';
import { cluster, destinationInDoubt, fence, kill, sourceInDoubt, VM } from './in-doubt.ts';

void test('an operator’s statement settles what is in doubt, and is kept', async (t) => {
  await t.test('at the source: it runs again, with an epoch of its own', async (t) => {
    await using it = await sourceInDoubt();
    const { migrationId } = it.subject;
    const link = await it.links.asked(migrationId);
    await link.expect('SURRENDER');
    await t.rejects(it.api.call('resolve', { migrationId, peerFenced: true }), {
      code: 'VM_STATE',
    });
    const fenced = await fence(it);
    t.match(fenced, {
      state: 'aborted',
      outcome: 'failed',
      code: 'FENCED',
      fencing: { operator: /^uid:\d+$/, atMs: Number },
    });
    t.match(await it.api.show(VM), { state: 'running', epoch: 3 });
    await runsOn(t, it.api, VM);
    await t.rejects(it.api.call('resolve', { migrationId, peerFenced: true }), {
      code: 'VM_STATE',
    });
  });
  await t.test(
    'at the destination: it runs, and the source hears it when it is back',
    async (t) => {
      await using it = await destinationInDoubt();
      const { migrationId } = it.subject;
      const link = await it.links.asked(migrationId);
      await link.expect('DONE');
      const fenced = await fence(it);
      t.match(fenced, { state: 'active', fencing: { operator: /^uid:\d+$/ } });
      t.match(await it.api.show(it.vm), { state: 'running', epoch: 2 });
      const back = await HostileLink.connect(it.cluster, 'host-a', 'host-b');
      back.send({ type: 'RESOLVE', migrationId });
      back.say(sayToken(matterOf(it.subject, it.digest)));
      await back.expect('ACTIVATED');
    },
  );
});

void test('after a statement of fencing both hosts are back', async (t) => {
  await t.test('a source whose guest is gone gives way to the newer life', async (t) => {
    const made = await cluster('host-a');
    await using _made = made;
    await using destination = await HostileDestination.start(made);
    await made.startHost('host-a');
    await made.a.call('vm.create', smallGuest(VM, { memoryBytes: 4 * MiB }));
    const migration = made.a.migrate(VM, 'host-b');
    const session = await destination.session();
    const { type: _type, round: _round, ...final } = await session.finished();
    const { subject } = session;
    const itsOwn = { ...final, signature: new Uint8Array(64) };
    await session[Symbol.asyncDispose]();
    t.match(await migration, { outcome: 'failed' });
    const tell = async (word: Say) => {
      const link = await HostileLink.connect(made, 'host-b', 'host-a');
      link.send({ type: 'RESOLVE', migrationId: subject.migrationId });
      link.say(word);
      return link.next();
    };
    t.match(
      await tell(sayActivated({ subject, final })),
      { type: 'ABORT' },
      'not while its own lives',
    );
    await runsOn(t, made.a, VM);
    kill(`${made.get('host-a').memoryDir}/${VM}`);
    await eventually('lost', async () => (await made.a.show(VM)).state === 'lost');
    const refused = {
      'of no other epoch': { subject: { ...subject, epoch: 7 }, final },
      'to nobody who was sent nothing': { subject },
      'not on a word of its own making': { subject, final: itsOwn },
      'not for what was not sent': { subject, final: { ...final, stateBytes: 1 } },
    };
    for (const [what, said] of Object.entries(refused)) {
      t.match(await tell(sayActivated(said)), { type: 'ABORT' }, what);
    }
    const impatient = await HostileLink.connect(made, 'host-b', 'host-a');
    impatient.send({ type: 'RESOLVE', migrationId: subject.migrationId });
    impatient.say(sayActivated({ subject, final }));
    impatient.say(sayActivated({ subject, final }));
    for (let heard = await impatient.next(); heard !== undefined; heard = await impatient.next()) {
      t.match(heard, { type: 'DELETED' }, 'no other word while it gives way');
    }
    await eventually('gone', async () => (await made.a.show(VM)).state === 'gone');
    t.match(await tell(sayActivated({ subject, final })), { type: 'DELETED' });
    t.match(await made.a.show(VM), { state: 'gone', movedTo: 'host-b' });
    await isClean(t, made, 'host-a', VM);
  });
  for (const guest of ['lives', 'is gone'] as const) {
    await t.test(
      `a destination whose guest ${guest}, and a source that took it back`,
      async (t) => {
        await using it = await destinationInDoubt();
        const { migrationId } = it.subject;
        await (await it.links.asked(migrationId)).expect('DONE');
        await fence(it);
        const back = await HostileLink.connect(it.cluster, 'host-a', 'host-b');
        back.send({ type: 'RESOLVE', migrationId });
        back.say(sayToken(matterOf(it.subject, it.digest)));
        await back.expect('ACTIVATED');
        if (guest === 'is gone') kill(`${it.cluster.get('host-b').memoryDir}/${it.vm}`);
        await eventually('as it is', async () => {
          const { state } = await it.api.show(it.vm);
          return state === (guest === 'lives' ? 'running' : 'lost');
        });
        back.say(sayAborted(migrationId, 'source', 'FENCED'));
        if (guest === 'is gone') {
          t.match(await back.next(), { type: 'ABORT', code: 'FENCED' });
          await isClean(t, it.cluster, 'host-b', it.vm);
        } else {
          t.equal(await back.next(), undefined);
          t.match(await it.api.show(it.vm), { state: 'running', epoch: 2 });
          const { log } = it.cluster.get('host-b');
          const isSaid = () => log.some((line) => line.includes('TWO_LIVES'));
          await eventually('said loudly', async () => {
            // The log comes through a pipe of its own.
            await it.api.list();
            return isSaid();
          });
        }
      },
    );
  }
});

void test('migctl tells of a migration in doubt, asks, and settles it', async (t) => {
  await using it = await sourceInDoubt();
  const { migrationId } = it.subject;
  const a = (words: string) => migctl(it.cluster, `--state-dir state/host-a ${words}`);
  await (await it.links.asked(migrationId)).expect('SURRENDER');
  await it.silence();
  await eventually('in doubt', async () => (await it.api.show(VM)).state === 'in-doubt');
  t.match(await a('vm list'), { exit: 0, out: /vm1 .*in-doubt/ });
  t.match(await a('status'), { exit: 0, out: /in-doubt.*PEER_/ });
  t.match(await a(`cancel ${migrationId}`), { exit: 5, err: /IN_DOUBT/ });
  t.match(await a(`resolve ${migrationId}`), { exit: 5, out: /in-doubt.*PEER_/ });
  t.match(await a(`resolve ${migrationId} --peer-fenced`), { exit: 0, out: /FENCED/ });
  t.match(await a('history --json'), {
    exit: 0,
    out: /"fencing":{"operator":"uid:\d+","atMs":\d+}/,
  });
  t.match(await a(`resolve ${migrationId}`), { exit: 0 }, 'it is settled');
  await runsOn(t, it.api, VM);
});
