/**
 * A host with the very certificate of the destination lies to the source. Before the source has
 * surrendered every lie is refused by its code and the VM runs on, whole; after it nothing but the
 * destination's own signed word settles it, and the VM stays paused, kept.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { test } from 'tap';
import { MESSAGE_BYTES_MAX } from '../../src/base/limits.ts';
import { MiB } from '../../src/base/units.ts';
import { activatedStatement, receiptStatement } from '../../src/protocol/statement.ts';
import { Cluster, freePort, smallGuest } from '../process/cluster.ts';
import { runsOn } from '../process/refusal.ts';
import { HostileDestination, type HostileSession } from './hostile-destination.ts';

/** An answer later than this is none. */
const ANSWER_MS = 15_000;
const VM = 'vm1';

interface Arena extends AsyncDisposable {
  readonly cluster: Cluster;
  readonly destination: HostileDestination;
}

async function arena(): Promise<Arena> {
  const cluster = Cluster.empty();
  for (const name of ['host-a', 'host-b']) cluster.pki.issue(name, 'host');
  cluster.peers['host-a'] = `127.0.0.1:${await freePort()}`;
  const destination = await HostileDestination.start(cluster);
  await cluster.startHost('host-a');
  await cluster.a.call('vm.create', smallGuest(VM, { memoryBytes: 4 * MiB }));
  return {
    cluster,
    destination,
    [Symbol.asyncDispose]: async () => {
      await destination[Symbol.asyncDispose]();
      await cluster[Symbol.asyncDispose]();
    },
  };
}

interface Lie {
  readonly code: string;
  readonly outcome?: 'refused' | 'failed';
  readonly tell: (session: HostileSession) => Promise<void>;
}

const inHello = (changes: object, code: string, outcome: Lie['outcome'] = 'failed'): Lie => ({
  code,
  outcome,
  tell: async (session) => {
    await session.greeted();
    session.send(session.helloOk(changes));
  },
});

const inEvidence = (length: number): Lie => ({
  code: 'ATT_NONCE_MISMATCH',
  outcome: 'refused',
  tell: async (session) => {
    await session.challenged();
    session.send(session.attEvidence({ format: 'software', body: randomBytes(length) }));
  },
});

const sent = (
  message: object,
  code: string,
  reach: (session: HostileSession) => Promise<unknown>,
  outcome: Lie['outcome'] = 'failed',
): Lie => ({
  code,
  outcome,
  tell: async (session) => {
    await reach(session);
    session.send(message);
  },
});

const accept = (ports: readonly number[]) => ({
  type: 'ACCEPT',
  reservation: randomUUID(),
  ports,
  resume: null,
});
const signature = randomBytes(64);
const reached = {
  greeted: (session: HostileSession) => session.greeted(),
  challenged: (session: HostileSession) => session.challenged(),
  appraised: (session: HostileSession) => session.appraised(),
  offered: (session: HostileSession) => session.offered(),
  accepted: (session: HostileSession) => session.accepted(),
  round: async (session: HostileSession) => {
    await session.accepted();
    await session.expect('ROUND_END');
  },
  final: (session: HostileSession) => session.finished(),
};

const raw = (bytes: Buffer, code: string): Lie => ({
  code,
  tell: async (session) => {
    await session.greeted();
    session.channel.send(bytes);
  },
});

const LIES: Record<string, Lie> = {
  'noise instead of a message': raw(randomBytes(1000), 'MESSAGE_MALFORMED'),
  'a message that is too large': raw(Buffer.alloc(MESSAGE_BYTES_MAX + 1), 'MESSAGE_TOO_LARGE'),
  'a version that was not offered': inHello({ version: 2 }, 'VERSION_MISMATCH', 'refused'),
  'a suite that was not offered': inHello({ suite: 'none' }, 'SUITE_MISMATCH', 'refused'),
  'a form that was not offered': inHello({ form: 'none' }, 'FORM_MISMATCH', 'refused'),
  'more channels than offered': inHello({ channels: 16 }, 'MESSAGE_MALFORMED'),
  'an encoding that was not offered': inHello({ encodings: ['zip'] }, 'MESSAGE_MALFORMED'),
  'a further field': inHello({ colour: 'red' }, 'MESSAGE_MALFORMED'),
  'an acceptance instead of an answer': sent(accept([1]), 'MESSAGE_UNEXPECTED', reached.greeted),
  'an unknown message': sent({ type: 'GOODBYE' }, 'MESSAGE_UNKNOWN', reached.greeted),
  'evidence of 64 random bytes': inEvidence(64),
  'evidence of one byte': inEvidence(1),
  'evidence of another format': sent(
    {
      type: 'ATT_EVIDENCE',
      evidence: { format: 'horoscope', body: randomBytes(64) },
      nonce: randomBytes(32),
      formats: ['software'],
      policyDigest: randomBytes(48),
    },
    'ATT_FORMAT',
    reached.challenged,
    'refused',
  ),
  'acceptance before its own evidence': sent(
    { type: 'CLI_ATT_OK' },
    'MESSAGE_UNEXPECTED',
    reached.challenged,
  ),
  'a verdict with a code that is none': sent(
    { type: 'CLI_ATT_FAILED', code: 'BAD_MOOD', detail: '' },
    'ATT_MALFORMED',
    reached.appraised,
    'refused',
  ),
  'a refusal with a code that is none': sent(
    { type: 'REFUSED', code: 'BAD_MOOD', detail: '' },
    'POLICY_DENIED',
    reached.offered,
    'refused',
  ),
  'no port': sent(accept([]), 'MESSAGE_MALFORMED', reached.offered),
  'another number of ports': sent(accept([1, 2]), 'MESSAGE_MALFORMED', reached.offered),
  'a port where nobody listens': sent(accept([1]), 'PEER_UNREACHABLE', reached.offered),
  'DONE instead of a round’s confirmation': sent(
    { type: 'DONE', signature },
    'MESSAGE_UNEXPECTED',
    reached.round,
  ),
  'another round confirmed': sent(
    { type: 'ROUND_OK', round: 7 },
    'MESSAGE_UNEXPECTED',
    reached.round,
  ),
  'a round confirmed before it was sent': {
    code: 'MESSAGE_UNEXPECTED',
    tell: async (session) => {
      await session.accepted();
      session.send({ type: 'ROUND_OK', round: 0 });
      session.send({ type: 'ROUND_OK', round: 0 });
      session.send({ type: 'ROUND_OK', round: 0 });
    },
  },
  'a receipt with a random signature': sent(
    { type: 'DONE', signature },
    'SIGNATURE_INVALID',
    reached.final,
  ),
  'a receipt for another transcript': {
    code: 'SIGNATURE_INVALID',
    tell: async (session) => {
      await session.finished();
      const statement = receiptStatement(session.subject, randomBytes(48));
      session.send({ type: 'DONE', signature: session.sign(statement) });
    },
  },
  'activated before the token': sent(
    { type: 'ACTIVATED', final: null, signature },
    'MESSAGE_UNEXPECTED',
    reached.final,
  ),
  'an abort with a code that is none': sent(
    { type: 'ABORT', code: 'BAD_MOOD', detail: '', signature },
    'PEER_CLOSED',
    reached.round,
  ),
};

void test('lies before the surrender: the VM runs on, whole', async (t) => {
  await using it = await arena();
  const { a } = it.cluster;
  for (const [what, { code, outcome = 'failed', tell }] of Object.entries(LIES)) {
    await t.test(what, async (t) => {
      const startedAt = performance.now();
      const migration = a.migrate(VM, 'host-b');
      await using session = await it.destination.session();
      await tell(session);
      const result = await migration;
      t.match(result, { outcome, code }, result.detail);
      t.ok(performance.now() - startedAt < ANSWER_MS);
      await runsOn(t, a, VM);
    });
  }
});

void test('gone without a word, at every step before the surrender', async (t) => {
  await using it = await arena();
  const { a } = it.cluster;
  for (const [step, reach] of Object.entries(reached)) {
    await t.test(step, async (t) => {
      const migration = a.migrate(VM, 'host-b');
      await using session = await it.destination.session();
      await reach(session);
      session.conversation.close();
      t.match(await migration, { outcome: 'failed', code: 'PEER_CLOSED' });
      await runsOn(t, a, VM);
    });
  }
});

void test('after the surrender: kept, paused, in doubt', async (t) => {
  const lies: Record<string, (session: HostileSession) => object> = {
    'a random activation': () => ({ type: 'ACTIVATED', final: null, signature }),
    'an activation of another epoch': (session) => ({
      type: 'ACTIVATED',
      final: null,
      signature: session.sign(activatedStatement({ ...session.subject, epoch: 9 })),
    }),
    'an abort, too late': () => ({ type: 'ABORT', code: 'CANCELLED', detail: '', signature }),
  };
  for (const [what, lie] of Object.entries(lies)) {
    await t.test(what, async (t) => {
      await using it = await arena();
      const { a } = it.cluster;
      const migration = a.migrate(VM, 'host-b');
      await using session = await it.destination.session();
      const { transcriptDigest } = await session.finished();
      const receipt = session.sign(receiptStatement(session.subject, transcriptDigest));
      session.send({ type: 'DONE', signature: receipt });
      await session.expect('SURRENDER');
      session.send(lie(session));
      t.match(await migration, { outcome: 'in-doubt', code: 'IN_DOUBT' });
      t.match(await a.show(VM), { state: 'in-doubt', guest: { state: 'held' } });
      await t.rejects(a.call('vm.resume', { name: VM }), { code: 'VM_STATE' });
    });
  }
});
