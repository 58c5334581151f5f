/**
 * Guests that outlive whoever drove them, wherever in a migration he was killed: found again, as what
 * they are, or proved to be gone; what lives and does not answer is neither.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import { GUEST_ATTACH_MS_MAX } from '../../src/base/limits.ts';
import { MiB, PAGE_BYTES } from '../../src/base/units.ts';
import type { PagedGuest, EmbeddedStatus, VmPlace, EmbeddedSpec } from '../../src/guest/driver.ts';
import { exchangeLayout } from '../../src/guest/exchange.ts';
import { RamDriver } from '../../src/guest/ram/driver.ts';
import { guestIn } from '../../src/guest/living-process.ts';
import { SharedMapping } from '../../src/native/mapping.ts';
import { Bitmap } from '../../src/pages/bitmap.ts';
import { pack, unpack } from './packed-guest.ts';

const DRIVING = fileURLToPath(new URL('driving.ts', import.meta.url));
const RAM_BYTES = 4 * MiB;
const PAGES = RAM_BYTES / PAGE_BYTES;

const GUEST: EmbeddedSpec = {
  name: 'vm1',
  memoryBytes: RAM_BYTES,
  vcpus: 1,
  workload: { kind: 'writer', rateBps: 40e6, workingSetBytes: MiB },
  fill: 0.5,
  dirtyTracking: 'auto',
};

/** One guest's folders, and the process that drives it until it is killed. */
class Scratch {
  readonly dir = mkdtempSync('/dev/shm/guest-');
  readonly driver = new RamDriver({ keepSpare: false });
  readonly place = placeIn(this.dir);
  readonly packed = path.join(this.dir, 'packed');
  #pid = 0;

  /** Whoever took the guest to `step` is killed there. Returns the guest's status before. */
  async killedAt(
    step: string,
    tracking: EmbeddedSpec['dirtyTracking'] = 'auto',
  ): Promise<EmbeddedStatus> {
    const { memoryDir, stateDir } = this.place;
    const args = [DRIVING, memoryDir, stateDir, step, tracking];
    const daemon = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(daemon, 'exit');
    let status = '{}';
    for await (const line of createInterface(daemon.stdout)) {
      status = line;
      daemon.kill('SIGKILL');
    }
    await exited;
    this.#pid = Number(readFileSync(path.join(memoryDir, 'pid'), 'utf8'));
    return JSON.parse(status) as EmbeddedStatus;
  }

  get pid(): number {
    return this.#pid;
  }

  async found(): Promise<PagedGuest> {
    const guest = await this.driver.attach(this.place);
    if (typeof guest === 'string') throw new Error(`the guest is ${guest}`);
    return guest;
  }

  /** Packs a guest that ran elsewhere; returns what it was when it was stopped. */
  async packOne(): Promise<EmbeddedStatus> {
    const driver = new RamDriver({ keepSpare: false });
    const guest = await driver.create(GUEST, placeIn(path.join(this.dir, 'source')));
    await guest.vtpm({ type: 'nv-define-counter', index: 0x0100_0001 });
    await guest.vtpm({ type: 'nv-increment', index: 0x0100_0001 });
    await wroteMore(guest, 0);
    await guest.hold();
    await pack(guest, this.packed);
    const status = await guest.status();
    await guest.destroy();
    return status;
  }

  [Symbol.dispose](): void {
    const left = guestIn(this.place.memoryDir);
    if (left !== undefined) process.kill(left.pid, 'SIGKILL');
    rmSync(this.dir, { recursive: true, force: true });
  }
}

const placeIn = (dir: string): VmPlace => ({
  name: 'vm1',
  memoryDir: path.join(dir, 'memory'),
  stateDir: path.join(dir, 'state'),
});

/** Resolves when a process of the place lives, ready or not. */
async function lives({ memoryDir }: VmPlace): Promise<void> {
  while (guestIn(memoryDir) === undefined) {
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}

const digestOf = (file: string): string =>
  createHash('sha256').update(readFileSync(file)).digest('hex');

/** Resolves when the guest has written more than `writes` times. */
async function wroteMore(guest: PagedGuest, writes: number): Promise<number> {
  for (;;) {
    const { registers } = await guest.status();
    if (registers.writes > writes) return registers.writes;
  }
}

/** The pages that the last collection found. */
function collected(guest: PagedGuest): Set<number> {
  using exchange = SharedMapping.open(guest.memory.exchangePath);
  const { bitmapOffset, bitmapBytes } = exchangeLayout(RAM_BYTES);
  const bits = Uint8Array.from(new Uint8Array(exchange.view(), bitmapOffset, bitmapBytes));
  const bitmap = new Bitmap(bits, PAGES);
  return new Set(Array.from({ length: PAGES }, (_, page) => page).filter((p) => bitmap.has(p)));
}

const pageOf = (ram: Buffer, page: number): Buffer =>
  ram.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);

const changedPages = (before: Buffer, after: Buffer): number[] =>
  Array.from({ length: PAGES }, (_, page) => page).filter(
    (page) => !pageOf(before, page).equals(pageOf(after, page)),
  );

for (const tracking of ['auto', 'log'] as const) {
  void test(`killed while written pages are tracked (${tracking}): none is lost`, async (t) => {
    using scratch = new Scratch();
    const before = await scratch.killedAt('track', tracking);
    const guest = await scratch.found();
    t.equal(guest.lifecycle, 'running');
    await wroteMore(guest, before.registers.writes);

    await guest.hold();
    await guest.trackDirty();
    const told = await guest.collectDirty('replace');
    t.same(told, { dirtyPages: 0 }, 'what was written before is not told');
    await guest.resume();

    // As a migration does: track, take every page, then what was written since.
    await guest.trackDirty();
    const first = readFileSync(guest.memory.ramPath);
    await wroteMore(guest, (await guest.status()).registers.writes + 50);
    await guest.hold();
    await guest.collectDirty('replace');
    const late = changedPages(first, readFileSync(guest.memory.ramPath));
    const found = collected(guest);
    t.ok(late.length > 0);
    t.same(
      late.filter((page) => !found.has(page)),
      [],
    );
    t.same(await guest.collectDirty('replace'), { dirtyPages: 0 });
    await guest.resume();
    t.match(await guest.check(), { badPages: 0 });
  });
}

for (const step of ['hold', 'holding'] as const) {
  void test(`killed at ${step}: the guest is held, and can run again`, async (t) => {
    using scratch = new Scratch();
    await scratch.killedAt(step);
    const guest = await scratch.found();
    t.equal(guest.lifecycle, 'held');
    t.match(await guest.status(), { state: 'held' });
    await t.rejects(guest.vtpm({ type: 'read-clock' }), { code: 'VM_STATE' });
    const digest = digestOf(guest.memory.ramPath);
    const { registers } = await guest.status();
    await guest.pause();
    t.equal(guest.lifecycle, 'held', 'a migration stopped it, nobody else');
    t.equal(digestOf(guest.memory.ramPath), digest);
    await guest.resume();
    t.equal(guest.lifecycle, 'running');
    await wroteMore(guest, registers.writes);
    t.match(await guest.check(), { badPages: 0 });
  });
}

for (const step of ['prepare', 'import'] as const) {
  void test(`killed after ${step}: it came here and never ran here`, async (t) => {
    using scratch = new Scratch();
    const source = await scratch.packOne();
    await scratch.killedAt(step);
    const guest = await scratch.found();
    t.equal(guest.lifecycle, 'incoming');
    if (step === 'prepare') {
      unpack(scratch.packed, guest);
      await guest.importState();
      t.equal(guest.lifecycle, 'incoming');
    }
    t.match(await guest.status(), { state: 'incoming', registers: source.registers });
    await t.rejects(guest.vtpm({ type: 'read-clock' }), { code: 'VM_STATE' });
    await guest.hold();
    t.equal((await guest.status()).state, 'incoming', 'until it runs');
    await guest.resume();
    await wroteMore(guest, source.registers.writes);
    t.match(await guest.check(), { badPages: 0 });
    t.same(await guest.vtpm({ type: 'nv-read-counter', index: 0x0100_0001 }), {
      type: 'counter',
      value: 1,
    });
    t.same((await guest.status()).pcrs['0'], source.pcrs['0']);
    await guest.hold();
    t.match(await guest.status(), { state: 'held' });
  });
}

void test('killed, with all that belongs to it still there: it is gone', async (t) => {
  using scratch = new Scratch();
  await scratch.killedAt('run');
  process.kill(scratch.pid, 'SIGKILL');
  const askedAt = performance.now();
  t.equal(await scratch.driver.attach(scratch.place), 'gone');
  t.ok(performance.now() - askedAt < GUEST_ATTACH_MS_MAX / 2, 'at once');
  t.ok(existsSync(path.join(scratch.place.memoryDir, 'ram')));
});

void test('a guest is found by its folder, not by a file', async (t) => {
  using scratch = new Scratch();
  await scratch.killedAt('run');
  rmSync(path.join(scratch.place.memoryDir, 'pid'));
  const guest = await scratch.found();
  t.match(await guest.status(), { state: 'running', pid: scratch.pid });
  await guest.destroy();
  t.equal(await scratch.driver.attach(scratch.place), 'gone');
});

void test('just starting: it is waited for', async (t) => {
  using scratch = new Scratch();
  const { driver, place } = scratch;
  const creating = driver.create(GUEST, place);
  await lives(place);
  const guest = await scratch.found();
  t.equal(guest.lifecycle, 'running');
  t.same((await guest.status()).pid, (await (await creating).status()).pid);
});

void test('just ending: its end is waited for', async (t) => {
  using scratch = new Scratch();
  const { memoryDir } = scratch.place;
  mkdirSync(memoryDir);
  const ending = spawn('sleep', ['60'], { cwd: memoryDir, stdio: 'ignore' });
  await lives(scratch.place);
  const answer = scratch.driver.attach(scratch.place);
  ending.kill('SIGKILL');
  t.equal(await answer, 'gone');
});

void test('frozen: it lives, and nothing of it is touched', async (t) => {
  using scratch = new Scratch();
  await scratch.killedAt('run');
  process.kill(scratch.pid, 'SIGSTOP');
  const askedAt = performance.now();
  t.equal(await scratch.driver.attach(scratch.place), 'unreachable');
  const tookMs = performance.now() - askedAt;
  t.ok(tookMs > GUEST_ATTACH_MS_MAX * 0.9 && tookMs < GUEST_ATTACH_MS_MAX * 2, `${tookMs} ms`);
  const { place, driver } = scratch;
  process.kill(scratch.pid, 'SIGCONT');
  const guest = await scratch.found();
  t.match(await guest.check(), { badPages: 0 });
  const descriptor = await guest.describe();
  process.kill(scratch.pid, 'SIGSTOP');
  await t.rejects(driver.prepare(descriptor, place), { code: 'GUEST_SILENT' });
  t.ok(existsSync(path.join(place.memoryDir, 'ram')), 'not for another of its name either');
});

void test('its folder removed under it: it lives', async (t) => {
  using scratch = new Scratch();
  await scratch.killedAt('run');
  rmSync(scratch.place.memoryDir, { recursive: true });
  t.equal(await scratch.driver.attach(scratch.place), 'unreachable');
  process.kill(scratch.pid, 'SIGKILL');
  t.equal(await scratch.driver.attach(scratch.place), 'gone');
});
