/**
 * A host with the very certificate of the other end lies on the links of a handover, and others try
 * to be heard. Nothing settles a handover but the other host's own word, or an operator's statement.
 */
import { randomBytes } from 'node:crypto';
import { test, type Test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import {
  sayAborted,
  sayActivated,
  sayDeleted,
  sayReceipt,
  sayToken,
  type Say,
} from '../../src/protocol/handover/matter.ts';
import { finalStatement, receiptStatement, type Subject } from '../../src/protocol/statement.ts';
import { Cluster, freePort, smallGuest, type Api } from '../process/cluster.ts';
import { eventually, guestProcesses, isClean, runsOn } from '../process/refusal.ts';
import { HostileDestination } from './hostile-destination.ts';
import {
  destinationAborted,
  HostileHost,
  HostileLink,
  matterOf,
  sourceAborted,
  type Links,
} from './hostile-link.ts';
import { HostileSource } from './hostile-source.ts';

const VM = 'vm1';
const OTHER = '01890000-0000-7000-8000-000000000000';
const signature = randomBytes(64);

/** One handover in doubt at a real host, and its other end. */
interface InDoubt extends AsyncDisposable {
  readonly cluster: Cluster;
  readonly subject: Subject;
  readonly digest: Uint8Array;
  readonly vm: string;
  readonly api: Api;
  readonly links: Links;
  /** From now on the other end does not answer any more. */
  readonly silence: () => Promise<void>;
}

/** Hosts a, b and a third with a valid certificate; only `running` is real. */
async function cluster(running: string): Promise<Cluster> {
  const made = Cluster.empty();
  for (const name of ['host-a', 'host-b', 'host-c']) {
    made.pki.issue(name, 'host');
    made.peers[name] = `127.0.0.1:${await freePort()}`;
  }
  if (running === 'host-b') await made.startHost(running);
  return made;
}

/** host-a has surrendered to a destination that does not answer. */
async function sourceInDoubt(): Promise<InDoubt> {
  const made = await cluster('host-a');
  const destination = await HostileDestination.start(made);
  await made.startHost('host-a');
  await made.a.call('vm.create', smallGuest(VM, { memoryBytes: 4 * MiB }));
  void made.a.migrate(VM, 'host-b').catch(() => undefined);
  const session = await destination.session();
  const { transcriptDigest: digest } = await session.finished();
  const { subject } = session;
  session.send({ type: 'DONE', signature: session.sign(receiptStatement(subject, digest)) });
  await session.expect('SURRENDER');
  await session[Symbol.asyncDispose]();
  return {
    cluster: made,
    subject,
    digest,
    vm: VM,
    api: made.a,
    links: destination.links,
    silence: () => destination[Symbol.asyncDispose](),
    [Symbol.asyncDispose]: async () => {
      await destination[Symbol.asyncDispose]();
      await made[Symbol.asyncDispose]();
    },
  };
}

/** host-b is prepared for a source that does not answer. */
async function destinationInDoubt(): Promise<InDoubt> {
  const made = await cluster('host-b');
  const other = await HostileHost.start(made, 'host-a');
  const source = await HostileSource.connect(made, 'host-a');
  const { transcriptDigest: digest, stateBytes } = await source.everything();
  const { subject } = source;
  const none = new Uint8Array(0);
  source.send({
    type: 'FINAL',
    round: 1,
    transcriptDigest: digest,
    stateBytes,
    memoryDigest: none,
    signature: source.sign(finalStatement(subject, digest, stateBytes, none)),
  });
  await source.expect('DONE');
  await source[Symbol.asyncDispose]();
  return {
    cluster: made,
    subject,
    digest,
    vm: source.descriptor.name,
    api: made.b,
    links: other.links,
    silence: () => other[Symbol.asyncDispose](),
    [Symbol.asyncDispose]: async () => {
      await other[Symbol.asyncDispose]();
      await made[Symbol.asyncDispose]();
    },
  };
}

/** Kept, standing still, and said to be in doubt. */
async function isKept(t: Test, { api, vm }: InDoubt, state: 'held' | 'incoming'): Promise<void> {
  t.match(await api.show(vm), { state: 'in-doubt', guest: { state } });
}

const stateAtEnd = (it: InDoubt): Promise<{ state: string; code: string | null }[]> =>
  it.api.call('status', { migrationId: it.subject.migrationId });

async function settles(t: Test, it: InDoubt, end: object): Promise<void> {
  await eventually('settled', async () => {
    const [row] = await stateAtEnd(it);
    return row !== undefined && 'state' in row && !/surrendered|prepared/.test(row.state);
  });
  t.match((await stateAtEnd(it))[0], end);
}

void test('a source in doubt believes nothing but its destination', async (t) => {
  await using it = await sourceInDoubt();
  const { subject, digest, links } = it;
  const { migrationId } = subject;
  const lies: Record<string, (link: HostileLink) => void> = {
    'it does not know': (link) => link.send({ type: 'UNKNOWN' }),
    'an unsigned abort': (link) => {
      link.send({ type: 'ABORT', code: 'STATE_LOST', detail: '', signature });
    },
    'the abort of another migration': (link) => link.say(destinationAborted(OTHER)),
    'an abort of the source’s': (link) => link.say(sourceAborted(migrationId)),
    'an unsigned activation': (link) => link.send({ type: 'ACTIVATED', signature }),
    'an activation of another epoch': (link) => link.say(sayActivated({ ...subject, epoch: 9 })),
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
      const link = await links.asked(migrationId);
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
      link.say(sayActivated(subject));
      const { deletion } = await link.expect('DELETED');
      t.equal(deletion.filesDestroyed, 2);
      await settles(t, it, { state: 'gone', outcome: 'completed', code: null });
      await isClean(t, it.cluster, 'host-a', VM);
      const again = await HostileLink.connect(it.cluster, 'host-b', 'host-a');
      again.send({ type: 'RESOLVE', migrationId });
      again.say(sayActivated(subject));
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
      const link = await links.asked(migrationId);
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
    const link = await links.asked(migrationId);
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

/** As soon as it is seen that the other end is not there. */
async function fence(it: InDoubt): Promise<unknown> {
  const { migrationId } = it.subject;
  await it.silence();
  let row: unknown;
  await eventually('not there', async () => {
    row = await it.api.call('resolve', { migrationId, peerFenced: true }).catch(() => undefined);
    return row !== undefined;
  });
  return row;
}

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
      fencing: { operator: String, atMs: Number },
    });
    t.match(await it.api.show(VM), { state: 'running', epoch: 3 });
    await runsOn(t, it.api, VM);
    await t.rejects(it.api.call('resolve', { migrationId, peerFenced: true }), {
      code: 'MIGRATION_UNKNOWN',
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
      t.match(fenced, { state: 'active', fencing: { operator: String } });
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
    await session.finished();
    const { subject } = session;
    await session[Symbol.asyncDispose]();
    t.match(await migration, { outcome: 'failed' });
    const tell = async (word: Say) => {
      const link = await HostileLink.connect(made, 'host-b', 'host-a');
      link.send({ type: 'RESOLVE', migrationId: subject.migrationId });
      link.say(word);
      return link.next();
    };
    t.match(await tell(sayActivated(subject)), { type: 'ABORT' }, 'not while its own lives');
    await runsOn(t, made.a, VM);
    kill(`${made.get('host-a').memoryDir}/${VM}`);
    await eventually('lost', async () => (await made.a.show(VM)).state === 'lost');
    t.match(await tell(sayActivated({ ...subject, epoch: 7 })), { type: 'ABORT' }, 'of no other');
    t.match(await tell(sayActivated(subject)), { type: 'DELETED' });
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
          const said = it.cluster.get('host-b').log.filter((line) => line.includes('TWO_LIVES'));
          t.equal(said.length, 1, 'and it is said loudly');
        }
      },
    );
  }
});

/** Ends the guest that lives in a folder, as the kernel would. */
function kill(memoryDir: string): void {
  for (const pid of guestProcesses(memoryDir)) process.kill(Number(pid), 'SIGKILL');
}

const deleted = (subject: Subject): Say =>
  sayDeleted(subject, { stateDigest: randomBytes(48), filesDestroyed: 2, bytesOverwritten: 2 });
