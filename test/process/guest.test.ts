/** The embedded guest as the daemon has it: a real process, its memory, its end. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'tap';
import { MiB, PAGE_BYTES } from '../../src/base/units.ts';
import {
  destroyVtpm,
  type PagedGuest,
  type VmPlace,
  type EmbeddedSpec,
} from '../../src/guest/driver.ts';
import { RamDriver } from '../../src/guest/ram/driver.ts';
import { ramLayout } from '../../src/guest/ram/layout.ts';
import { SharedMapping } from '../../src/native/mapping.ts';
import { Bitmap } from '../../src/pages/bitmap.ts';
import { exchangeLayout } from '../../src/guest/exchange.ts';

const RAM_BYTES = 4 * MiB;

const spec = (more: Partial<EmbeddedSpec> = {}): EmbeddedSpec => ({
  name: 'vm1',
  memoryBytes: RAM_BYTES,
  vcpus: 2,
  workload: { kind: 'writer', rateBps: 40e6, workingSetBytes: MiB },
  fill: 0.5,
  dirtyTracking: 'auto',
  ...more,
});

/** Folders for one guest, which end with whatever guest is still in them. */
class Scratch {
  readonly dir = mkdtempSync('/dev/shm/guest-');
  readonly driver = new RamDriver({ keepSpare: false });
  readonly place: VmPlace = {
    name: 'vm1',
    memoryDir: path.join(this.dir, 'memory'),
    stateDir: path.join(this.dir, 'state'),
  };

  async [Symbol.asyncDispose](): Promise<void> {
    const left = await this.driver.attach(this.place);
    if (typeof left !== 'string') await left.destroy();
    await this.driver.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

const isAlive = (pid: number): boolean => {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
};

const digestOf = (file: string): string =>
  createHash('sha256').update(readFileSync(file)).digest('hex');

/** Resolves when the guest has written more than `writes` times. */
async function wroteMore(guest: PagedGuest, writes: number): Promise<number> {
  for (;;) {
    const { registers } = await guest.status();
    if (registers.writes > writes) return registers.writes;
  }
}

void test('a guest runs, is whole, and nothing is left of it', async (t) => {
  await using scratch = new Scratch();
  const { driver, place } = scratch;
  const guest = await driver.create(spec(), place);
  t.equal(guest.lifecycle, 'running');
  const first = await guest.status();
  t.match(first, { state: 'running', throttlePercent: 0, kvAddress: null });
  t.ok(isAlive(first.pid));
  await wroteMore(guest, first.registers.writes);
  const check = await guest.check();
  t.equal(check.badPages, 0);
  t.equal(check.versionSum, check.registerSum);
  t.ok(check.writtenPages >= (RAM_BYTES / PAGE_BYTES) * 0.49);
  t.match(await guest.describe(), { name: 'vm1', vcpus: 2, regions: [{ bytes: RAM_BYTES }] });
  await guest.destroy();
  t.notOk(isAlive(first.pid));
  t.notOk(existsSync(place.memoryDir));
  await destroyVtpm(place);
  t.same(readdirSync(scratch.dir), []);
});

void test('after an acknowledged pause not a byte of memory changes, until it is resumed', async (t) => {
  await using scratch = new Scratch();
  for (const dirtyTracking of ['auto', 'log'] as const) {
    const guest = await scratch.driver.create(spec({ dirtyTracking }), scratch.place);
    for (let i = 0; i < 5; i += 1) {
      await guest.pause();
      const before = digestOf(guest.memory.ramPath);
      const { registers } = await guest.status();
      await guest.trackDirty();
      t.same(await guest.collectDirty('replace'), { dirtyPages: 0 });
      t.equal(digestOf(guest.memory.ramPath), before);
      t.same((await guest.status()).registers, registers);
      await guest.resume();
      await wroteMore(guest, registers.writes);
    }
    t.equal((await guest.check()).badPages, 0, dirtyTracking);
    await guest.destroy();
    await destroyVtpm(scratch.place);
  }
});

void test('a throttled guest has less time', async (t) => {
  await using scratch = new Scratch();
  const guest = await scratch.driver.create(spec({ vcpus: 1 }), scratch.place);
  /** Virtual time that passes in so many writes, as a share of real time. */
  const share = async (writes: number): Promise<number> => {
    const [from, before] = [performance.now(), await guest.status()];
    await wroteMore(guest, before.registers.writes + writes);
    const after = await guest.status();
    return (after.registers.runMs - before.registers.runMs) / (performance.now() - from);
  };
  await guest.throttle(90);
  t.equal((await guest.status()).throttlePercent, 90);
  t.ok((await share(200)) < 0.3, 'a tenth, roughly');
  await t.rejects(guest.throttle(100), { code: 'GUEST_FAILED' }, 'it would never run');
});

void test('a throttled server has less time, and is paused at once all the same', async (t) => {
  await using scratch = new Scratch();
  const workload = { kind: 'kv', port: 0 } as const;
  const guest = await scratch.driver.create(spec({ vcpus: 1, workload }), scratch.place);
  await guest.throttle(90);
  const [from, before] = [performance.now(), await guest.status()];
  let after = before;
  while (after.registers.runMs < before.registers.runMs + 100) after = await guest.status();
  t.ok(performance.now() - from > 300, 'a tenth, roughly');
  await guest.throttle(0);
  t.equal((await guest.status()).throttlePercent, 0);
  await guest.pause();
  t.equal(guest.lifecycle, 'paused');
});

void test('what changes in memory is in the bitmap of written pages', async (t) => {
  await using scratch = new Scratch();
  for (const dirtyTracking of ['auto', 'log'] as const) {
    const guest = await scratch.driver.create(spec({ dirtyTracking }), scratch.place);
    await guest.trackDirty();
    await guest.pause();
    await guest.collectDirty('replace');
    const before = readFileSync(guest.memory.ramPath);
    await guest.resume();
    await wroteMore(guest, (await guest.status()).registers.writes + 20);
    await guest.pause();
    const { dirtyPages } = await guest.collectDirty('replace');
    const after = readFileSync(guest.memory.ramPath);
    using exchange = SharedMapping.open(guest.memory.exchangePath);
    const { bitmapOffset, bitmapBytes } = exchangeLayout(RAM_BYTES);
    const bits = new Uint8Array(exchange.view(), bitmapOffset, bitmapBytes);
    const bitmap = new Bitmap(bits, RAM_BYTES / PAGE_BYTES);
    const changed = Array.from({ length: bitmap.pageCount }, (_, page) => page).filter(
      (page) =>
        after.compare(
          before,
          page * PAGE_BYTES,
          (page + 1) * PAGE_BYTES,
          page * PAGE_BYTES,
          (page + 1) * PAGE_BYTES,
        ) !== 0,
    );
    t.ok(changed.length > 0);
    t.same(
      changed.filter((page) => !bitmap.has(page)),
      [],
      dirtyTracking,
    );
    t.equal(bitmap.count(), dirtyPages);
    t.equal(dirtyPages, changed.length, 'and no other');
    await guest.destroy();
    await destroyVtpm(scratch.place);
  }
});

void test('state and memory make the same guest elsewhere', async (t) => {
  await using here = new Scratch();
  await using there = new Scratch();
  const source = await here.driver.create(spec(), here.place);
  await wroteMore(source, (await source.status()).registers.writes);
  await source.vtpm({ type: 'nv-define-counter', index: 0x0100_0001 });
  await source.vtpm({ type: 'nv-increment', index: 0x0100_0001 });
  const destination = await there.driver.prepare(await source.describe(), there.place);
  t.equal((await destination.status()).state, 'incoming');
  t.equal(destination.lifecycle, 'incoming');
  await t.rejects(source.exportState(), { code: 'VM_STATE' }, 'it runs');
  await source.pause();
  const { stateBytes } = await source.exportState();
  writeFileSync(destination.memory.ramPath, readFileSync(source.memory.ramPath), { flag: 'r+' });
  const state = readFileSync(source.memory.exchangePath).subarray(0, stateBytes);
  writeFileSync(destination.memory.exchangePath, state, { flag: 'r+' });
  await destination.importState();
  const [ours, theirs] = [await source.status(), await destination.status()];
  t.same(theirs.registers, ours.registers);
  t.same(theirs.pcrs, ours.pcrs);
  t.same(await destination.describe(), await source.describe(), 'the same endorsement key');
  const left = readFileSync(destination.memory.exchangePath).subarray(0, stateBytes);
  t.ok(left.equals(Buffer.alloc(stateBytes)), 'the state is wiped from the exchange');
  await t.rejects(
    destination.vtpm({ type: 'read-clock' }),
    { code: 'VM_STATE' },
    'it stands still',
  );
  await destination.resume();
  await wroteMore(destination, theirs.registers.writes);
  t.equal((await destination.check()).badPages, 0);
  t.same(await destination.vtpm({ type: 'nv-read-counter', index: 0x0100_0001 }), {
    type: 'counter',
    value: 1,
  });
});

void test('a state that nobody sent is refused, and the guest stays as it was', async (t) => {
  await using scratch = new Scratch();
  const source = await scratch.driver.create(spec(), scratch.place);
  const descriptor = await source.describe();
  await source.destroy();
  await destroyVtpm(scratch.place);
  const guest = await scratch.driver.prepare(descriptor, scratch.place);
  await t.rejects(guest.importState(), { code: 'GUEST_FAILED' });
  const absurd = Buffer.alloc(8, 0xff);
  writeFileSync(guest.memory.exchangePath, absurd, { flag: 'r+' });
  await t.rejects(guest.importState(), { code: 'GUEST_FAILED' });
  t.equal((await guest.status()).state, 'incoming');
});

void test('the bytes of an image are in memory', async (t) => {
  await using scratch = new Scratch();
  const image = randomBytes(100_001);
  const imagePath = path.join(scratch.dir, 'image');
  writeFileSync(imagePath, image);
  const guest = await scratch.driver.create(spec({ imagePath }), scratch.place);
  const { imageFirst } = ramLayout(RAM_BYTES, image.length, { kind: 'idle' });
  const at = imageFirst * PAGE_BYTES;
  t.ok(
    readFileSync(guest.memory.ramPath)
      .subarray(at, at + image.length)
      .equals(image),
  );
  const { imageSha256 } = await guest.check();
  t.equal(imageSha256, createHash('sha256').update(image).digest('hex'));
});

void test('a guest that cannot be made leaves nothing and says why', async (t) => {
  await using scratch = new Scratch();
  const { driver, place } = scratch;
  const imagePath = path.join(scratch.dir, 'image');
  await t.rejects(driver.create(spec({ imagePath }), place), { code: 'REQUEST_INVALID' }, 'none');
  writeFileSync(imagePath, Buffer.alloc(RAM_BYTES));
  await t.rejects(driver.create(spec({ imagePath }), place), { code: 'REQUEST_INVALID' }, 'large');
  rmSync(imagePath);
  await t.rejects(driver.create(spec({ memoryBytes: 2 ** 50 }), place), { code: 'DEST_CAPACITY' });
  t.same(readdirSync(scratch.dir), []);
});

void test('a guest process that dies is noticed, and its name can be used again', async (t) => {
  await using scratch = new Scratch();
  const { driver, place } = scratch;
  const guest = await driver.create(spec(), place);
  const { pid } = await guest.status();
  process.kill(pid, 'SIGKILL');
  await t.rejects(guest.pause(), { code: 'GUEST_FAILED' });
  t.equal(await driver.attach(place), 'gone');
  await guest.destroy();
  t.notOk(existsSync(place.memoryDir));
  const again = await driver.create(spec(), place);
  t.equal((await again.check()).badPages, 0);
});

/** A client of the store: one line out, one line back. */
class KvClient {
  readonly #socket;
  readonly #lines;

  constructor(address: string | null) {
    const [host = '', port = ''] = address?.split(':') ?? [];
    this.#socket = connect(Number(port), host);
    this.#lines = createInterface(this.#socket)[Symbol.asyncIterator]();
  }

  async ask(line: string): Promise<unknown> {
    this.#socket.write(`${line}\n`);
    return (await this.#lines.next()).value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.end();
    await once(this.#socket, 'close');
  }
}

void test('the key-value store serves, stands still while paused, and is in memory', async (t) => {
  await using scratch = new Scratch();
  const kv = spec({ workload: { kind: 'kv', port: 0 }, fill: 0 });
  const guest = await scratch.driver.create(kv, scratch.place);
  const { kvAddress } = await guest.status();
  t.ok(kvAddress, 'it serves as soon as it is there');
  {
    await using client = new KvClient(kvAddress);
    t.equal(await client.ask('PING'), 'PONG');
    t.equal(await client.ask('GET a'), 'NONE');
    t.equal(await client.ask('SET a value with spaces'), 'OK');
    t.equal(await client.ask('GET a'), 'VALUE value with spaces');
    t.equal(await client.ask(`SET a ${'x'.repeat(1968)}`), 'OK');
    t.equal(await client.ask(`SET a ${'x'.repeat(1969)}`), 'ERR value');
    t.equal(await client.ask(`SET ${'k'.repeat(64)} v`), 'OK');
    t.equal(await client.ask(`SET ${'k'.repeat(65)} v`), 'ERR key');
    t.equal(await client.ask('SET  v'), 'ERR key');
    t.equal(await client.ask('EXPLODE a'), 'ERR command');
    t.equal(await client.ask('DEL a'), 'OK');
    t.equal(await client.ask('DEL a'), 'NONE');
    await guest.pause();
    const before = digestOf(guest.memory.ramPath);
    const answer = client.ask('SET b late');
    t.equal((await guest.status()).state, 'paused');
    t.equal(digestOf(guest.memory.ramPath), before);
    await guest.resume();
    t.equal(await answer, 'OK');
    t.match(await guest.check(), { kvEntries: 2, badPages: 0 });
    t.ok(readFileSync(guest.memory.ramPath).includes('late'));
  }
});
