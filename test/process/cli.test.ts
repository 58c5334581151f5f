/** Each command of `migctl` against real daemons, as people and programs read its answers. */
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import type { VmDetail, VmView } from '../../src/daemon/api/schema.ts';
import type { MigrationResult } from '../../src/migration/report.ts';
import { Cluster } from './cluster.ts';
import { jsonLines, migctl, startMigctl, toldError } from './migctl.ts';

const VM_FIELDS = [
  'name',
  'vmId',
  'host',
  'state',
  'epoch',
  'driver',
  'memoryBytes',
  'vcpus',
  'workload',
  'vtpm',
  'movedTo',
];

/** Every field of a result, with an example (design: interfaces). */
const RESULT = {
  event: 'result',
  migrationId: String,
  vm: 'big',
  from: 'host-a',
  to: 'host-b',
  outcome: 'completed',
  code: null,
  detail: '',
  mode: 'pre-copy',
  suite: 'chacha20-poly1305+hmac-sha256',
  form: 'tls',
  engine: 'native',
  channels: 2,
  memoryBytes: 16 * 2 ** 20,
  queuedMs: Number,
  totalMs: Number,
  downtimeMs: Number,
  stoppedBy: 'downtime-limit',
  throttle: { maxPercent: 0, guestMsLost: 0 },
  deadline: null,
  setupMs: Number,
  attestMs: Number,
  transferMs: Number,
  handoverMs: Number,
  rounds: Array,
  postCopy: null,
  resumes: 0,
  pagesSent: Number,
  zeroPages: Number,
  bytesSent: Number,
  encodings: {
    zero: { pages: Number, bytes: Number },
    raw: { pages: Number, bytes: Number },
    zstd: { pages: Number, bytes: Number },
    delta: { pages: Number, bytes: Number },
    duplicate: { pages: Number, bytes: Number },
  },
  throughputBps: Number,
  attestation: {
    source: { format: 'software', verdict: 'accepted' },
    destination: { format: 'software', verdict: 'accepted' },
  },
  vtpm: {
    moved: true,
    deletedAtSource: true,
    deletionCertificate: { signer: 'host-a', statementBase64: String, signatureBase64: String },
  },
  verified: true,
};

const ROUND_FIELDS = [
  'n',
  'isWhole',
  'pages',
  'zeroPages',
  'bytesSent',
  'durationMs',
  'deferredPages',
  'dirtyPagesAfter',
  'bandwidthBps',
  'predictedDowntimeMs',
];

void test('vm: every command and flag', async (t) => {
  await using cluster = await Cluster.start();
  const a = (words: string) => migctl(cluster, `--state-dir state/host-a ${words}`);
  t.match(await a('vm list'), { exit: 0, out: 'no VMs\n', err: '' });
  t.match(await a('vm list --json'), { exit: 0, out: '[]\n' });

  writeFileSync(path.join(cluster.dir, 'disk.img'), Buffer.alloc(8192, 7));
  const everything = '--vcpus 2 --workload zipf --rate 4MB --working-set 2M --skew 1.2 --fill 25%';
  const big = await a(`vm create big --memory 16M ${everything} --dirty log --json`);
  t.match(big, { exit: 0, err: '' });
  t.strictSame(Object.keys(jsonLines(big)[0] as VmView), VM_FIELDS);
  t.match(await a('vm create store --memory 8M --workload kv --kv-port 0'), {
    exit: 0,
    out: 'store runs at host-a\n',
  });
  t.match(await a('vm create disk --memory 4M --fill 0% --image disk.img'), { exit: 0 });
  t.match(await a('vm create disk'), { exit: 1, out: '', err: toldError('VM_EXISTS') });
  t.match(await a('vm create more --image nowhere.img'), { exit: 2, err: /nowhere\.img/ });

  const list = await a('vm list');
  t.match(list.out, /^NAME +HOST +STATE +EPOCH +MEMORY +VCPUS +WORKLOAD +DRIVER +VTPM\n/);
  t.match(list.out, /^big +host-a +running +1 +16 MiB +2 +zipf +ram +software$/m);
  t.match(jsonLines(await a('vm list --json'))[0], [
    { name: 'big', memoryBytes: 16 * 2 ** 20 },
    { name: 'disk' },
    { name: 'store', workload: 'kv' },
  ]);
  const shown = JSON.parse((await a('vm show big')).out) as VmDetail;
  t.match(shown, { name: 'big', guest: { dirtyTracking: 'log', pcrs: { 0: String } } });
  t.match(JSON.parse((await a('vm show store')).out), { guest: { kvAddress: String } });

  t.match(await a('vm pause big'), { exit: 0, out: 'big is paused\n' });
  t.match(await a('vm list'), { out: /^big +host-a +paused /m });
  t.match(await a('migrate big --to host-b'), { exit: 1, err: toldError('VM_STATE') });
  t.match(await a('vm resume big --json'), { exit: 0, out: /"state":"running"/ });
  t.match(await a('vm check big'), {
    exit: 0,
    out: 'big: all 4096 pages are whole and the newest\n',
  });
  t.match(jsonLines(await a('vm check big --json'))[0], { pages: 4096, badPages: 0 });
  const ram = openSync(path.join(cluster.get('host-a').memoryDir, 'store', 'ram'), 'r+');
  writeSync(ram, 'damage', 5 * 4096 + 100);
  closeSync(ram);
  t.match(await a('vm check store'), { exit: 1, out: /^store: 1 of 2048 pages are damaged/ });
  t.match(await a('vm delete big'), { exit: 0, out: 'big is deleted\n' });
  t.match(jsonLines(await a('vm delete store --json'))[0], { name: 'store', deleted: true });
  t.match(await a('vm show big'), { exit: 1, err: toldError('VM_UNKNOWN') });
});

void test('migrate, status, watch, history: the same story in three forms', async (t) => {
  await using cluster = await Cluster.start();
  const a = (words: string) => migctl(cluster, `--state-dir state/host-a ${words}`);
  t.match(await a('status'), { exit: 0, out: 'none under way\n' });
  t.match(await a('history'), { exit: 0, out: 'no migrations\n' });
  t.match(await a('hosts'), { exit: 0, out: /^host-a \(this one\) +127\.0\.0\.1:\d+ +0 +0 +0$/m });
  t.match(jsonLines(await a('hosts --json'))[0], [{ name: 'host-a', self: true }, { self: false }]);
  for (const name of ['big', 'plain']) {
    t.equal((await a(`vm create ${name} --memory 16M --workload writer --rate 4MB`)).exit, 0);
  }
  // Long enough to be asked about again and again, however slow the machine is.
  t.equal((await a('vm create slow --memory 128M --fill 100%')).exit, 0);

  const options = '--mode pre-copy --downtime-limit 80ms --verify --max-bandwidth 1Gbit';
  const more = '--timeout 5m --on-timeout cancel --rounds 9 --channels 2';
  const suite = 'chacha20-poly1305+hmac-sha256';
  const json = await a(`migrate big --to host-b ${options} ${more} --suite ${suite} --json`);
  t.match(json, { exit: 0, err: '' });
  const events = jsonLines(json) as { event: string; migrationId: string }[];
  const result = events.at(-1) as unknown as MigrationResult;
  t.match(result, RESULT);
  t.strictSame(Object.keys(result), Object.keys(RESULT));
  for (const round of result.rounds) t.strictSame(Object.keys(round), ROUND_FIELDS);
  t.equal(events[0]?.event, 'started');
  for (const event of ['phase', 'round', 'progress', 'result']) {
    t.ok(
      events.some((one) => one.event === event),
      event,
    );
  }
  t.ok(events.every(({ migrationId }) => migrationId === result.migrationId));

  const detached = await a('migrate slow --to host-b --max-bandwidth 2MB --detach --json');
  t.equal(detached.exit, 0);
  const { migrationId } = jsonLines(detached)[0] as { migrationId: string };
  const watch = startMigctl(cluster, '--state-dir state/host-a watch');
  await watch.said(/^phase pre-copy$/m);
  t.match(await a('status'), { out: new RegExp(`^${migrationId} +slow +host-a +host-b `, 'm') });
  t.match(jsonLines(await a(`status ${migrationId} --json`))[0], [{ migrationId, outcome: null }]);
  t.match(await a(`cancel ${migrationId}`), { exit: 0, out: /^cancelled: slow runs at host-a/ });
  t.match(await watch.ended, {
    exit: 4,
    err: /^cancelled: slow is still at host-a\nmigctl: CANCELLED: /,
  });
  t.match(await a(`watch ${migrationId} --json`), { exit: 4, out: /"outcome":"cancelled"/ });
  t.match(await a(`cancel ${migrationId}`), { exit: 0 }, 'asked again, answered again');

  const plain = await a('migrate plain --to host-b');
  t.match(plain, { exit: 0, err: '' });
  for (const line of [/^[0-9a-f-]{36}: plain from host-a to host-b\n/, /^phase handover$/m]) {
    t.match(plain.out, line);
  }
  t.match(plain.out, /^ {2}[█░]{30} +\d+ %, .+ remaining, .+ left$/m);
  t.match(plain.out, /^completed: plain runs at host-b \(migration .*\)\n {2}total /m);
  t.match(await a(`cancel ${result.migrationId}`), { exit: 1, err: toldError('CANCEL_TOO_LATE') });
  t.match(jsonLines(await a('history --json'))[0], [
    { vm: 'big', outcome: 'completed', code: null },
    { vm: 'slow', outcome: 'cancelled', code: 'CANCELLED' },
    { vm: 'plain', outcome: 'completed' },
  ]);
  t.match(await a('history slow'), { exit: 0, out: /slow .* cancelled +CANCELLED\n$/ });
});
