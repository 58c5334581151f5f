/**
 * Passive capture: whoever records every byte between two hosts, and then takes the disks of both,
 * finds none of 2,000 secrets planted in a guest's memory and in its vTPM.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import { PAGE_BYTES } from '../../src/base/units.ts';
import { Sealer } from '../../src/crypto/sealer.ts';
import { SUITES } from '../../src/crypto/suites.ts';
import { AgentClient } from '../../src/guest/ram/client.ts';
import { Sending } from '../../src/migration/data-plane/sending.ts';
import { ENCODING_NAMES, CHANNEL_FORMS, SUITE_NAMES } from '../../src/protocol/options.ts';
import type { RecordKind } from '../../src/protocol/record.ts';
import type { VtpmCommand, VtpmReply } from '../../src/vtpm/command.ts';
import { NV_INDEX_FIRST } from '../../src/vtpm/nv-storage.ts';
import { filesBelow, smallGuest, type Daemon } from '../process/cluster.ts';
import { sessionSecret } from '../unit/migration/data-plane/fixtures.ts';
import { TestMemory } from '../unit/migration/data-plane/memories.ts';
import { makeSecrets, Search, SECRET_BYTES } from './secrets.ts';
import { Wire } from './wire.ts';
import { EncodingChoice } from '../../src/pages/encoding-choice.ts';

const COUNT = 1000;
const CHANNELS = 2;
const IMAGE_BYTES = COUNT * PAGE_BYTES;
/** In one NV index. */
const SECRETS_AN_INDEX = 50;

/** A file with a secret in every page, each at another place of it. */
function imageWith(secrets: readonly Buffer[]): Buffer {
  const image = Buffer.alloc(IMAGE_BYTES);
  for (const [i, secret] of secrets.entries()) secret.copy(image, i * PAGE_BYTES + 1001 + i);
  return image;
}

/** What a guest asks of its vTPM, asked through its agent's socket, as its daemon would. */
async function vtpm(daemon: Daemon, vm: string, commands: VtpmCommand[]): Promise<VtpmReply[]> {
  const agent = await AgentClient.connect(path.join(daemon.memoryDir, vm, 'agent.sock'));
  const replies: VtpmReply[] = [];
  for (const command of commands) {
    const reply: unknown = await agent.request({ op: 'vtpm', command });
    replies.push(reply as VtpmReply);
  }
  agent.close();
  return replies;
}

const chunksOf = (secrets: readonly Buffer[]): Buffer[] =>
  Array.from({ length: secrets.length / SECRETS_AN_INDEX }, (_, i) =>
    Buffer.concat(secrets.slice(i * SECRETS_AN_INDEX, (i + 1) * SECRETS_AN_INDEX)),
  );

const planting = (secrets: readonly Buffer[]): VtpmCommand[] =>
  chunksOf(secrets).flatMap((data, i) => [
    { type: 'nv-define', index: NV_INDEX_FIRST + i, sizeBytes: SECRETS_AN_INDEX * SECRET_BYTES },
    { type: 'nv-write', index: NV_INDEX_FIRST + i, data },
  ]);

const reading = (secrets: readonly Buffer[]): VtpmCommand[] =>
  chunksOf(secrets).map((_, i) => ({ type: 'nv-read', index: NV_INDEX_FIRST + i }));

const onDisk = (daemon: Daemon): Buffer[] =>
  filesBelow(daemon.stateDir)
    .filter((file) => !file.endsWith('.sock'))
    .map((file) => readFileSync(path.join(daemon.stateDir, file)));

/** Secrets as a log could show them: as they are, in hex, in base64. */
const inText = (text: string, secrets: readonly Buffer[]): number =>
  secrets.filter((secret) =>
    (['latin1', 'hex', 'base64'] as const).some((form) =>
      text.includes(secret.toString(form).slice(0, 20)),
    ),
  ).length;

void test('the search finds what is there, wherever it begins', async (t) => {
  const secrets = makeSecrets(COUNT);
  const image = imageWith(secrets);
  t.equal(new Search(secrets).count(image), COUNT);
  t.equal(new Search(makeSecrets(COUNT)).count(image), 0);
  t.equal(new Search(secrets).count(Buffer.concat([image.subarray(1), image])), COUNT);
  const [first = Buffer.alloc(0)] = secrets;
  t.equal(new Search([first]).count(first), 1, 'at the very end');
  t.equal(new Search([first]).count(first.subarray(0, SECRET_BYTES - 1)), 0, 'not whole');
});

/** The records of one round of these pages, as they are handed to TLS. */
async function recordsOf(image: Buffer, sealer: Sealer): Promise<Buffer> {
  using memory = new TestMemory(IMAGE_BYTES);
  memory.ram.set(image);
  const records: Uint8Array[] = [];
  const sending = new Sending({
    sealer,
    ram: memory.file(),
    exchange: memory,
    share: { index: 0, of: 1 },
    encodings: ENCODING_NAMES,
    choice: new EncodingChoice(),
    versionBytesMax: 0,
    pacer: { take: async () => undefined },
    clock: { now: () => 0 },
    writer: { write: async (record) => void records.push(Buffer.concat(record)) },
    report: () => undefined,
  });
  await sending.round(0, 'all');
  return Buffer.concat(records);
}

void test('records alone, as inside TLS: nothing with each suite, all without sealing', async (t) => {
  const secrets = makeSecrets(COUNT);
  const search = new Search(secrets);
  const image = imageWith(secrets);
  for (const name of SUITE_NAMES) {
    using keys = sessionSecret().channelKeys(0, 'to-destination');
    const records = await recordsOf(image, new Sealer({ suite: SUITES[name], keys, channel: 0 }));
    t.ok(records.length > IMAGE_BYTES);
    t.equal(search.count(records), 0, name);
  }
  const open = {
    seal: (_kind: RecordKind, pieces: readonly Uint8Array[]) => pieces,
    endRound: () => Buffer.alloc(0),
  };
  const records = await recordsOf(image, open as unknown as Sealer);
  t.equal(search.count(records), COUNT, 'the same attack succeeds where nothing is sealed');
});

void test('nothing of the guest or its vTPM can be read from wire, disks or logs', async (t) => {
  await using wire = await Wire.start({ channels: CHANNELS, record: true });
  const { a, dir } = wire.cluster;
  const [hostA, hostB] = [wire.cluster.get('host-a'), wire.cluster.get('host-b')];
  const [inMemory, inVtpm] = [makeSecrets(COUNT), makeSecrets(COUNT)];
  const search = new Search([...inMemory, ...inVtpm]);
  const imagePath = path.join(dir, 'image');
  writeFileSync(imagePath, imageWith(inMemory));

  let bytesSent = 0;
  const ways = SUITE_NAMES.flatMap((suite) => CHANNEL_FORMS.map((form) => ({ suite, form })));
  for (const [i, { suite, form }] of ways.entries()) {
    const vm = `vm${i}`;
    await a.call('vm.create', smallGuest(vm, { imagePath, fill: 0.2 }));
    const planted = await vtpm(hostA, vm, planting(inVtpm));
    t.ok(planted.every(({ type }) => type === 'done'));
    const ramAtA = readFileSync(path.join(hostA.memoryDir, vm, 'ram'));
    t.equal(search.count(ramAtA), COUNT, 'the search finds them in the source’s RAM');

    const result = await a.migrate(vm, 'host-b', { suite, form, channels: CHANNELS, verify: true });
    t.match(result, { outcome: 'completed', suite, form, channels: CHANNELS, verified: true });
    bytesSent += result.bytesSent;

    const ramAtB = readFileSync(path.join(hostB.memoryDir, vm, 'ram'));
    t.equal(search.count(ramAtB), COUNT, 'and all of them in the destination’s RAM');
    const read = await vtpm(hostB, vm, reading(inVtpm));
    const nv = Buffer.concat(
      read.map((reply) => (reply.type === 'nv' ? reply.data : [])) as Buffer[],
    );
    t.equal(search.count(nv), COUNT, 'and those of the vTPM in the destination’s vTPM');
    const exchange = readFileSync(path.join(hostB.memoryDir, vm, 'exchange'));
    t.equal(search.count(exchange), 0, 'what passed the state area is wiped');
  }

  const captured = wire.relays.flatMap(({ recorded }) => recorded);
  const capturedBytes = captured.reduce((sum, { length }) => sum + length, 0);
  t.ok(bytesSent > ways.length * IMAGE_BYTES);
  t.ok(capturedBytes > bytesSent, 'every record went through the relays');
  t.ok(wire.data.every(({ connections }) => connections >= ways.length));
  t.same(captured.map((stream) => search.count(stream)).filter(Boolean), [], 'wire');

  for (const daemon of [hostA, hostB]) {
    const files = onDisk(daemon);
    t.ok(files.length > 0);
    t.same(files.map((file) => search.count(file)).filter(Boolean), [], `disk of ${daemon.name}`);
    t.ok(daemon.log.length > 0);
    t.equal(inText(daemon.log.join('\n'), [...inMemory, ...inVtpm]), 0, `log of ${daemon.name}`);
  }
  t.same(filesBelow(hostA.memoryDir), [], 'the source’s memory is gone');
});
