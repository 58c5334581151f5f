/** A disk that is full or read-only: what is not written never will be, what was is read, and it goes on. */
import { readdirSync } from 'node:fs';
import { test } from 'tap';
import { KiB } from '../../../src/base/units.ts';
import { openStore } from '../../../src/store/lmdb-store.ts';
import { filled, mounted, readOnly, skipUnlessMounting } from '../../process/small-disk.ts';
import { migrationRecord, scratch, vmRecord } from './records.ts';

const skip = skipUnlessMounting;
const FAILED = { code: 'STORE_FAILED' };
const large = (n: number) => migrationRecord(n, { detail: 'x'.repeat(256 * KiB) });

void test('a write for which there is no room is not there, now or later', { skip }, async (t) => {
  using place = scratch();
  using _disk = mounted(place.dir, 1024 * KiB);
  let store = openStore(place.dir);
  for (let n = 0; n < 20; n += 1) {
    await store.write({ vm: vmRecord({ epoch: n + 1 }), migration: migrationRecord(n) });
  }
  {
    using _full = filled(place.dir);
    for (let n = 20; n < 40; n += 1) {
      const change = { vm: vmRecord({ epoch: 50 }), migration: large(n) };
      await t.rejects(store.write(change), FAILED);
      t.equal(store.vm('vm1')?.epoch, 20, 'what was is read');
      t.equal(store.epochOf(vmRecord().vmId), 20);
      t.equal(store.migrations().length, 20);
    }
    await store.write({ vm: vmRecord({ epoch: 21 }) });
    t.equal(store.vm('vm1')?.epoch, 21, 'what fits into the file is written');
    await store.close();
    store = openStore(place.dir);
    t.equal(store.vm('vm1')?.epoch, 21, 'it can be opened while the disk is full');
    t.equal(store.migrations().length, 20);
    await t.rejects(store.write({ migration: large(40) }), FAILED);
  }
  await store.write({ vm: vmRecord({ epoch: 60 }), migration: large(41) });
  t.equal(store.vm('vm1')?.epoch, 60, 'usable again as soon as there is space');
  await store.close();
  store = openStore(place.dir);
  t.equal(store.vm('vm1')?.epoch, 60);
  t.equal(store.migrations().length, 21);
  await store.close();
});

void test('what a handover owes is written on a full disk', { skip }, async (t) => {
  using place = scratch();
  using _disk = mounted(place.dir, 1024 * KiB);
  const store = openStore(place.dir);
  for (let n = 0; n < 20; n += 1) await store.write({ migration: migrationRecord(n) });
  using _full = filled(place.dir);
  const detail = 'x'.repeat(1000);
  for (let n = 0; n < 60; n += 1) {
    const vm = vmRecord({ name: `vm${n}`, state: 'gone' });
    await store.write({ vm, migration: migrationRecord(n, { state: 'gone', detail }) });
  }
  t.equal(store.vms().length, 60);
  await store.close();
});

// The text that LMDB makes of a full disk is longer than its buffer: it must never come to that.
void test('full, and not, and full again: the process lives', { skip }, async (t) => {
  using place = scratch();
  using _disk = mounted(place.dir, 2048 * KiB);
  const store = openStore(place.dir);
  let written = 0;
  let failed = 0;
  const attempt = async () => {
    const detail = 'y'.repeat(1500 + ((written * 53) % 3000));
    await store.write({ migration: migrationRecord(written, { detail }) });
    written += 1;
  };
  for (let round = 0; round < 30; round += 1) {
    for (let i = 0; i < 4; i += 1) await attempt();
    using _full = filled(place.dir);
    for (let i = 0; i < 60; i += 1) await attempt().catch(() => (failed += 1));
    if (written > 250) break;
  }
  t.ok(failed > 0, `${failed} of ${written + failed} writes failed`);
  t.equal(store.migrations().length, written);
  await store.close();
});

void test('a new store on a full disk is refused, and leaves nothing', { skip }, async (t) => {
  using place = scratch();
  using _disk = mounted(place.dir, 256 * KiB);
  {
    using _full = filled(place.dir);
    t.throws(() => openStore(place.dir), FAILED);
    t.same(readdirSync(place.dir), ['ballast']);
  }
  const store = openStore(place.dir);
  await store.write({ vm: vmRecord() });
  await store.close();
});

void test('a disk that became read-only', { skip }, async (t) => {
  using place = scratch();
  using _disk = mounted(place.dir, 512 * KiB);
  const store = openStore(place.dir);
  await store.write({ vm: vmRecord() });
  await store.close();
  {
    using _fixed = readOnly(place.dir);
    t.throws(() => openStore(place.dir), FAILED);
  }
  const again = openStore(place.dir);
  t.same(again.vms(), [vmRecord()]);
  await again.close();
});
