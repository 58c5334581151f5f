/** The store of records: what is written is there again, what is damaged is refused, epochs go up. */
import {
  copyFileSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'lmdb';
import { test } from 'tap';
import { uuidV7 } from '../../../src/daemon/uuid.ts';
import { openStore } from '../../../src/store/lmdb-store.ts';
import { migrationRecord, scratch, vmRecord } from './records.ts';

const vm = vmRecord();
const { vmId } = vm;

void test('what is written is there, also when it is opened again', async (t) => {
  using place = scratch();
  const store = openStore(place.dir);
  t.same([store.vms(), store.migrations(), store.vm('vm1')], [[], [], undefined]);
  const other = vmRecord({ name: 'vm2', vmId: vmId.replace(/^./, 'f'), state: 'prepared' });
  const receipt = new Uint8Array(64).fill(7);
  await store.write({ vm, migration: migrationRecord(1) });
  await store.write({ vm: other, migration: migrationRecord(2, { state: 'prepared', receipt }) });
  await store.write({ migration: migrationRecord(1, { state: 'aborted', code: 'TIMEOUT' }) });
  await store.write({ removeVm: 'vm2' });
  await store.close();
  const again = openStore(place.dir);
  t.same(again.vms(), [vm]);
  t.equal(again.vm('vm2'), undefined);
  const [first, second] = again.migrations();
  t.same(first, migrationRecord(1, { state: 'aborted', code: 'TIMEOUT' }));
  t.match(second, { migrationId: migrationRecord(2).migrationId, state: 'prepared' });
  t.ok(Buffer.from(receipt).equals(second?.receipt ?? receipt.subarray(1)));
  await again.close();
});

void test('an epoch that was active here never goes back', async (t) => {
  using place = scratch();
  let store = openStore(place.dir);
  t.equal(store.epochOf(vmId), 0, 'never');
  await store.write({ vm: vmRecord({ epoch: 3, state: 'prepared' }) });
  t.equal(store.epochOf(vmId), 0, 'what is prepared never ran');
  await store.write({ vm: vmRecord({ epoch: 3 }) });
  await store.write({ vm: vmRecord({ epoch: 3 }) });
  t.equal(store.epochOf(vmId), 3);
  const older = store.write({ vm: vmRecord({ epoch: 2 }), migration: migrationRecord(1) });
  await t.rejects(older, { code: 'EPOCH_STALE' });
  t.equal(store.vm('vm1')?.epoch, 3, 'nothing of it is written');
  t.same(store.migrations(), []);
  await store.write({ vm: vmRecord({ epoch: 3, state: 'gone' }) });
  await store.write({ removeVm: 'vm1' });
  await store.close();
  store = openStore(place.dir);
  t.equal(store.epochOf(vmId), 3, 'though the VM is deleted');
  await t.rejects(store.write({ vm: vmRecord({ epoch: 2 }) }), { code: 'EPOCH_STALE' });
  await store.write({ vm: vmRecord({ epoch: 5 }) });
  t.equal(store.epochOf(vmId), 5, 'it goes up');
  await store.close();
});

void test('history is in order though clocks step back and other hosts have others', async (t) => {
  using place = scratch();
  const day = 24 * 3600 * 1000;
  const start = Date.UTC(2026, 0, 1);
  const store = openStore(place.dir);
  const random = new Uint8Array(10);
  const ids: string[] = [];
  for (const wallMs of [start, start + 1, start - day, start - day, 0, start + 365 * day, start]) {
    random[9] = ids.length;
    const migration = migrationRecord(0, {
      migrationId: uuidV7(wallMs, random),
      startedAtMs: wallMs,
    });
    await store.write({ migration });
    await store.write({ migration: { ...migration, state: 'aborted' } });
    ids.push(migration.migrationId);
  }
  t.equal(new Set(ids).size, 7, 'ids differ though the clock stood');
  t.same(
    store.migrations().map(({ migrationId }) => migrationId),
    ids,
  );
  await store.close();
  const again = openStore(place.dir);
  t.same(
    again.migrations().map(({ migrationId }) => migrationId),
    ids,
  );
  await again.close();
});

/** A file as another version wrote it. */
async function written(file: string, version: number, records: readonly unknown[]) {
  const root = open({ path: file, overlappingSync: false, maxDbs: 4 });
  await root.openDB({ name: 'meta' }).put('version', version);
  const vms = root.openDB({ name: 'vms' });
  for (const [i, record] of records.entries()) await vms.put(`vm${i}`, record);
  const migrations = root.openDB({ name: 'migrations' });
  for (const n of [2, 1]) {
    const migration = migrationRecord(n);
    await migrations.put(migration.migrationId, migration);
  }
  await root.close();
}

void test('records of version 1 are taken over, with the epochs that they tell', async (t) => {
  using place = scratch();
  const states = ['active', 'gone', 'surrendered', 'prepared'] as const;
  const records = states.map((state, i) =>
    vmRecord({ name: `vm${i}`, vmId: vmId.replace(/^./, String(i)), state, epoch: i + 4 }),
  );
  await written(place.file, 1, records);
  for (const time of ['first', 'again']) {
    const store = openStore(place.dir);
    t.same(store.vms(), records, time);
    t.same(
      records.map((record) => store.epochOf(record.vmId)),
      [4, 5, 6, 0],
    );
    t.same(store.migrations(), [migrationRecord(1), migrationRecord(2)]);
    await store.close();
  }
});

void test('records of a later version, and what is no record, are refused', async (t) => {
  using later = scratch();
  await written(later.file, 3, []);
  t.throws(() => openStore(later.dir), { code: 'STORE_FAILED', detail: /version 3/ });

  using damaged = scratch();
  await written(damaged.file, 2, [{ ...vm, state: 'everywhere' }]);
  const store = openStore(damaged.dir);
  t.throws(() => store.vm('vm0'), { code: 'STORE_FAILED', detail: /damaged/ });
  t.throws(() => store.vms(), { code: 'STORE_FAILED', detail: /damaged/ });
  await store.close();
});

void test('what a daemon left that was killed at its first start is not in the way', async (t) => {
  using place = scratch();
  for (const left of ['new', 'new-lock']) writeFileSync(`${place.file}.${left}`, 'begun');
  const store = openStore(place.dir);
  await store.write({ vm });
  await store.close();
  t.same(readdirSync(place.dir).toSorted(), ['records.lmdb', 'records.lmdb-lock']);
});

void test('a file that is damaged is refused, and the process lives', async (t) => {
  using place = scratch();
  const { file } = place;
  const store = openStore(place.dir);
  for (let n = 0; n < 20; n += 1) await store.write({ vm, migration: migrationRecord(n) });
  await store.close();
  const whole = `${file}.whole`;
  copyFileSync(file, whole);
  // Not the room ahead of it.
  const used = readFileSync(file).findLastIndex((byte) => byte !== 0) + 1;
  for (const bytes of [0, 1, 100, 4096, 5000, 8192, 16_384, used - 4096]) {
    copyFileSync(whole, file);
    truncateSync(file, bytes);
    t.throws(() => openStore(place.dir), { code: 'STORE_FAILED' }, `${bytes} bytes of it`);
  }
  for (const [name, first, end] of [
    ['first', 0, 4096],
    ['second', 4096, 8192],
  ] as const) {
    const bytes = readFileSync(whole);
    writeFileSync(file, bytes.fill(0xa5, first, end));
    t.throws(() => openStore(place.dir), { code: 'STORE_FAILED' }, `without the ${name} page`);
  }
  copyFileSync(whole, file);
  rmSync(`${file}-lock`);
  const again = openStore(place.dir);
  t.equal(again.migrations().length, 20, 'the lock file is not missed');
  await again.close();
});
