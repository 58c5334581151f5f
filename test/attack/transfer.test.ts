/**
 * A host with a valid certificate, admitted with a VM of its own, lies from then on: about rounds,
 * the final digest, the state, the token; or others try to join its data channel. host-b refuses
 * each by its code and is clean; where it may hold the only copy it keeps it, and runs nothing.
 */
import { createPublicKey, randomBytes, randomUUID, verify } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { connect as tlsConnect } from 'node:tls';
import { test, type Test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import { loadIdentity } from '../../src/crypto/pki/identity.ts';
import type { Message } from '../../src/protocol/messages.ts';
import {
  abortStatement,
  activatedStatement,
  deletionStatement,
  finalStatement,
  receiptStatement,
  tokenStatement,
} from '../../src/protocol/statement.ts';
import { JOIN_BYTES } from '../../src/transport/join.ts';
import { clientOptions, DATA_ALPN } from '../../src/transport/tls.ts';
import { Cluster, smallGuest } from '../process/cluster.ts';
import { eventually } from '../process/refusal.ts';
import { HostileSource } from './hostile-source.ts';
import { Verdicts } from './verdicts.ts';

const SILENCE_MS = 1_500;

async function start(): Promise<Cluster> {
  const limits = { peerSilenceMs: SILENCE_MS };
  const cluster = await Cluster.start({ 'host-b': { config: { limits } } });
  for (const name of ['host-c', 'host-d']) cluster.pki.issue(name, 'host');
  return cluster;
}

async function servesHonest(t: Test, cluster: Cluster): Promise<void> {
  await cluster.a.call('vm.create', smallGuest('honest', { memoryBytes: 4 * MiB }));
  const result = await cluster.a.migrate('honest', 'host-b', { verify: true });
  t.match(result, { outcome: 'completed', verified: true }, 'an honest migration works');
  t.equal((await cluster.b.check('honest')).badPages, 0);
}

/** FINAL for what was sent, signed; `changes` are signed too, `unsigned` are not. */
function final(
  source: HostileSource,
  sent: { transcriptDigest: Uint8Array; stateBytes: number },
  changes: object = {},
  unsigned: object = {},
): object {
  const { transcriptDigest, stateBytes } = sent;
  const said = {
    round: 1,
    transcriptDigest,
    stateBytes,
    memoryDigest: Buffer.alloc(0),
    ...changes,
  };
  const statement = finalStatement(
    source.subject,
    said.transcriptDigest,
    said.stateBytes,
    said.memoryDigest,
  );
  return { type: 'FINAL', ...said, signature: source.sign(statement), ...unsigned };
}

const roundEnd = (more: object = {}): object => ({
  type: 'ROUND_END',
  round: 0,
  pages: 256,
  zeroPages: 256,
  bytes: 1000,
  tag: randomBytes(48),
  ...more,
});

type Attack = (source: HostileSource) => Promise<void>;

const ATTACKS: Record<string, { code: string; attack: Attack }> = {
  'a round announced and never sent': {
    code: 'PEER_SILENT',
    attack: async (source) => {
      await source.joined();
      source.send(roundEnd());
    },
  },
  'a round announced without a data channel': {
    code: 'PEER_SILENT',
    attack: async (source) => {
      await source.offered();
      source.send(roundEnd());
    },
  },
  'another round than the next': {
    code: 'MESSAGE_UNEXPECTED',
    attack: async (source) => {
      await source.joined();
      source.send(roundEnd({ round: 1 }));
    },
  },
  'more pages than were sent': {
    code: 'TRANSCRIPT_MISMATCH',
    attack: async (source) => {
      const sender = await source.joined();
      const { pages, tag } = await sender.sendRound(0, 'all');
      source.send(roundEnd({ pages: pages + 1, tag }));
    },
  },
  'another tag': {
    code: 'TRANSCRIPT_MISMATCH',
    attack: async (source) => {
      const sender = await source.joined();
      const { pages } = await sender.sendRound(0, 'all');
      source.send(roundEnd({ pages }));
    },
  },
  'the same round twice': {
    code: 'MESSAGE_UNEXPECTED',
    attack: async (source) => {
      await source.firstRound();
      source.send(roundEnd());
    },
  },
  'a second offer': {
    code: 'MESSAGE_UNEXPECTED',
    attack: async (source) => {
      await source.joined();
      source.send(source.offer());
    },
  },
  'SURRENDER before FINAL': {
    code: 'MESSAGE_UNEXPECTED',
    attack: async (source) => {
      await source.firstRound();
      const token = source.sign(tokenStatement(source.subject, randomBytes(48)));
      source.send({ type: 'SURRENDER', signature: token });
    },
  },
  'DELETED before anything ran': {
    code: 'MESSAGE_UNEXPECTED',
    attack: async (source) => {
      await source.firstRound();
      const deletion = { stateDigest: randomBytes(48), filesDestroyed: 1, bytesOverwritten: 1 };
      source.send({ type: 'DELETED', deletion, signature: randomBytes(64) });
    },
  },
  'FINAL of another round': {
    code: 'MESSAGE_UNEXPECTED',
    attack: async (source) => {
      const sent = await source.everything();
      source.send(final(source, sent, { round: 2 }));
    },
  },
  'FINAL with a random signature': {
    code: 'SIGNATURE_INVALID',
    attack: async (source) => {
      const sent = await source.everything();
      source.send(final(source, sent, {}, { signature: randomBytes(64) }));
    },
  },
  'FINAL signed for other figures': {
    code: 'SIGNATURE_INVALID',
    attack: async (source) => {
      const sent = await source.everything();
      source.send(final(source, sent, {}, { stateBytes: sent.stateBytes + 1 }));
    },
  },
  'FINAL with another digest, well signed': {
    code: 'TRANSCRIPT_MISMATCH',
    attack: async (source) => {
      const sent = await source.everything();
      source.send(final(source, sent, { transcriptDigest: randomBytes(48) }));
    },
  },
  'FINAL with another length of the state, well signed': {
    code: 'TRANSCRIPT_MISMATCH',
    attack: async (source) => {
      const sent = await source.everything();
      source.send(final(source, sent, { stateBytes: sent.stateBytes + 1 }));
    },
  },
  'FINAL with another digest of the memory, well signed': {
    code: 'VERIFY_MISMATCH',
    attack: async (source) => {
      const sent = await source.everything({ verify: true });
      source.send(final(source, sent, { memoryDigest: randomBytes(32) }));
    },
  },
  'FINAL, and nothing of it sent': {
    code: 'PEER_SILENT',
    attack: async (source) => {
      await source.firstRound();
      const sent = { transcriptDigest: randomBytes(48), stateBytes: 1000 };
      source.send(final(source, sent));
    },
  },
  'a state that is noise': {
    code: 'GUEST_FAILED',
    attack: async (source) => {
      const sent = await source.everything({}, randomBytes(5000));
      source.send(final(source, sent));
    },
  },
  'another vTPM than the one offered': {
    code: 'VTPM_FAILED',
    attack: async (source) => {
      const vtpm = { kind: 'software', ekFingerprint: '00'.repeat(32) };
      const sent = await source.everything({ descriptor: { ...source.descriptor, vtpm } });
      source.send(final(source, sent));
    },
  },
  'an abort that nobody can read': {
    code: 'PEER_CLOSED',
    attack: async (source) => {
      await source.joined();
      source.send({ type: 'ABORT', code: 'Ω'.repeat(60), detail: '', signature: randomBytes(64) });
    },
  },
};

void test('lies about what is sent', async (t) => {
  await using cluster = await start();
  const verdicts = new Verdicts(cluster);
  for (const [what, { code, attack }] of Object.entries(ATTACKS)) {
    await t.test(what, (t) =>
      verdicts.refuses(t, code, async () => {
        await using source = await HostileSource.connect(cluster, 'host-c');
        await attack(source);
        await source.ended();
      }),
    );
  }
  await servesHonest(t, cluster);
});

/** Connects to a data port as `name` and sends `bytes`; resolves with what it was answered. */
async function knock(cluster: Cluster, name: string, port: number, bytes: Buffer): Promise<number> {
  const identity = loadIdentity(cluster.certs, name);
  const { host } = cluster.get('host-b').listen;
  const socket = tlsConnect({ ...clientOptions(identity, DATA_ALPN), host, port });
  let answered = 0;
  socket.on('data', (data: Buffer) => (answered += data.length)).on('error', () => undefined);
  socket.write(bytes);
  await once(socket, 'close');
  return answered;
}

void test('strangers at the data port are sent away, and the rightful one still joins', async (t) => {
  await using cluster = await start();
  await using source = await HostileSource.connect(cluster, 'host-c');
  await using other = await HostileSource.connect(cluster, 'host-c');
  const ports = await source.offered();
  const [port = 0] = ports;
  const [otherPort = 0] = await other.offered();
  const noise = randomBytes(JOIN_BYTES);
  const wellFormed = Buffer.concat([Buffer.from([1, 1, 0, 0]), randomBytes(48)]);
  t.equal(await knock(cluster, 'host-c', port, noise), 0, 'noise');
  t.equal(await knock(cluster, 'host-c', port, wellFormed), 0, 'a random proof');
  t.equal(await knock(cluster, 'host-c', port, Buffer.concat([noise, noise])), 0, 'too much');
  t.equal(await knock(cluster, 'host-d', port, wellFormed), 0, 'another valid host');
  t.equal(await knock(cluster, 'host-b', port, wellFormed), 0, 'host-b itself');
  await t.rejects(source.join([otherPort]), { code: 'CHANNEL_JOIN' }, 'to another session’s port');
  const sender = await source.join(ports);
  t.equal((await sender.sendRound(0, 'all')).pages, 256, 'the rightful one joined');
  // The other session was not harmed by who came to its port either.
  t.equal((await (await other.join([otherPort])).sendRound(0, 'all')).pages, 256);
});

void test('two connections with the id of one migration', async (t) => {
  await using cluster = await start();
  const verdicts = new Verdicts(cluster);
  await using source = await HostileSource.connect(cluster, 'host-c');
  await using twin = await HostileSource.connect(cluster, 'host-c');
  await source.greet();
  twin.send(twin.hello({ migrationId: source.migrationId }));
  await twin.ended();
  t.match(await verdicts.next(), { code: 'MESSAGE_MALFORMED' });
  const rows = await cluster.b.call<{ migrationId: string }[]>('history');
  t.notOk(
    rows.some(({ migrationId }) => migrationId === source.migrationId),
    'nothing on record',
  );
});

/** PREPARED at host-b: the receipt has come. */
async function prepared(source: HostileSource): Promise<Uint8Array> {
  const sent = await source.everything();
  source.send(final(source, sent));
  await source.expect('DONE');
  return sent.transcriptDigest;
}

void test('all the way by hand: what the attacks leave out is enough', async (t) => {
  await using cluster = await start();
  const verdicts = new Verdicts(cluster);
  const hostB = createPublicKey(loadIdentity(cluster.certs, 'host-b').certPem);
  await using source = await HostileSource.connect(cluster, 'host-c');
  const sent = await source.everything();
  source.send(final(source, sent));
  const { signature: receipt } = await source.expect('DONE');
  const { subject } = source;
  t.ok(verify(null, receiptStatement(subject, sent.transcriptDigest), hostB, receipt));
  const token = source.sign(tokenStatement(subject, sent.transcriptDigest));
  source.send({ type: 'SURRENDER', signature: token });
  const { signature: activation } = await source.expect('ACTIVATED');
  t.ok(verify(null, activatedStatement(subject), hostB, activation));
  const { name } = source.descriptor;
  t.match(await cluster.b.list(), [{ name, state: 'running', epoch: 2 }]);
  const deletion = { stateDigest: randomBytes(48), filesDestroyed: 2, bytesOverwritten: 9 };
  const signature = source.sign(deletionStatement(subject, { ...deletion, filesDestroyed: 3 }));
  source.send({ type: 'DELETED', deletion, signature });
  t.match(await verdicts.next(), { outcome: 'completed', code: null });
  await eventually('a false certificate is not taken for one', async () => {
    await cluster.b.list();
    const { log } = cluster.get('host-b');
    return log.some((line) => /SIGNATURE_INVALID.*certificate of deletion/.test(line));
  });
});

void test('PREPARED: only the source’s own word ends it', async (t) => {
  const lies: Record<string, (source: HostileSource, digest: Uint8Array) => Message> = {
    'a random token': () => ({ type: 'SURRENDER', signature: randomBytes(64) }),
    'a token for another transcript': (source) => ({
      type: 'SURRENDER',
      signature: source.sign(tokenStatement(source.subject, randomBytes(48))),
    }),
    'a token for another epoch': (source, digest) => ({
      type: 'SURRENDER',
      signature: source.sign(tokenStatement({ ...source.subject, epoch: 7 }, digest)),
    }),
    'an abort that is not signed': () => ({
      type: 'ABORT',
      code: 'CANCELLED',
      detail: '',
      signature: randomBytes(64),
    }),
    'an abort of another migration': (source) => ({
      type: 'ABORT',
      code: 'CANCELLED',
      detail: '',
      signature: source.sign(abortStatement(randomUUID(), 'source', 'CANCELLED')),
    }),
  };
  await using cluster = await start();
  const hostB = createPublicKey(loadIdentity(cluster.certs, 'host-b').certPem);
  const verdicts = new Verdicts(cluster);
  for (const [what, lie] of Object.entries(lies)) {
    await t.test(`${what}: in doubt, kept, not run`, async (t) => {
      await using source = await HostileSource.connect(cluster, 'host-c');
      source.send(lie(source, await prepared(source)));
      await source.ended();
      t.match(await verdicts.next(), { outcome: 'in-doubt', code: 'IN_DOUBT' });
      const { name } = source.descriptor;
      const row = (await cluster.b.list()).find((vm) => vm.name === name);
      t.match(row, { state: 'in-doubt' });
      await t.rejects(cluster.b.call('vm.resume', { name }), { code: 'VM_STATE' });
    });
  }
  await t.test(
    'what it holds has died: given up with its signed word, and no token helps',
    async (t) => {
      await using source = await HostileSource.connect(cluster, 'host-c');
      const digest = await prepared(source);
      const { name } = source.descriptor;
      const { memoryDir } = cluster.get('host-b');
      process.kill(Number(readFileSync(path.join(memoryDir, name, 'pid'), 'utf8')), 'SIGKILL');
      const { code, signature: word } = await source.expect('ABORT');
      const statement = abortStatement(source.migrationId, 'destination', code);
      t.ok(verify(null, statement, hostB, word));
      const signature = source.sign(tokenStatement(source.subject, digest));
      source.send({ type: 'SURRENDER', signature });
      await source.ended();
      t.match(await verdicts.next(), { outcome: 'failed', code: 'STATE_LOST' });
      const row = (await cluster.b.list()).find((vm) => vm.name === name);
      t.equal(row, undefined, 'never ACTIVE here: the source keeps its own');
    },
  );
  await t.test('its signed word that it did not surrender', async (t) => {
    await using source = await HostileSource.connect(cluster, 'host-c');
    await prepared(source);
    const statement = abortStatement(source.migrationId, 'source', 'CANCELLED');
    const signature = source.sign(statement);
    source.send({ type: 'ABORT', code: 'CANCELLED', detail: '', signature });
    await source.ended();
    t.match(await verdicts.next(), { outcome: 'cancelled', code: 'CANCELLED' });
    const { name } = source.descriptor;
    t.notOk((await cluster.b.list()).some((vm) => vm.name === name));
  });
  await servesHonest(t, cluster);
});
