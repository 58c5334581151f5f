/** VMs of a real QEMU with a real swtpm, as the driver makes, finds and ends them. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'tap';
import { destroyVtpm, type StreamedGuest, type VmPlace } from '../../../src/guest/driver.ts';
import { guestIn } from '../../../src/guest/living-process.ts';
import { descriptionSchema, type Description } from '../../../src/guest/qemu/description.ts';
import { QemuDriver } from '../../../src/guest/qemu/driver.ts';
import { filesBelow } from '../cluster.ts';
import {
  guestCommandLine,
  guestImage,
  guestToolsMissing,
  type Filling,
} from '../../qemu/guest-image.ts';
import { Console } from './console.ts';

const skip = guestToolsMissing();

const describe = (filling: Filling, more: object = {}): Description =>
  descriptionSchema.parse({
    accelerator: 'tcg',
    memory: '131064K',
    boot: { ...guestImage(), commandLine: guestCommandLine(filling) },
    ...more,
  });

/** A driver, and folders for one VM, which is ended whatever becomes of the test. */
class Bench implements AsyncDisposable {
  readonly driver = new QemuDriver();
  readonly #memory = mkdtempSync('/dev/shm/migd-');
  readonly #state = mkdtempSync(path.join(tmpdir(), 'migd-'));
  readonly place: VmPlace = {
    name: 'vm1',
    memoryDir: path.join(this.#memory, 'vm1'),
    stateDir: path.join(this.#state, 'vm1'),
  };

  /** Processes that work in the memory folder, and files in both. */
  get left(): { process: boolean; files: readonly string[] } {
    return {
      process: guestIn(this.place.memoryDir) !== undefined,
      files: [...filesBelow(this.#memory), ...filesBelow(this.#state)],
    };
  }

  async [Symbol.asyncDispose]() {
    for (let one; (one = guestIn(this.place.memoryDir)) !== undefined;)
      process.kill(one.pid, 'SIGKILL');
    await destroyVtpm(this.place);
    rmSync(this.#memory, { recursive: true });
    rmSync(this.#state, { recursive: true });
  }
}

/** What its guest said last, its QEMU does within an instant. */
async function stands(guest: StreamedGuest): Promise<void> {
  while ((await guest.status()).state !== 'paused') await guest.describe();
}

const NOTHING = { process: false, files: [] };

/** PCR 12 after what init.c extends it by. */
const EXTENDED = createHash('sha256')
  .update(Buffer.alloc(32))
  .update(Buffer.from(Array.from({ length: 32 }, (_, index) => 33 + index)))
  .digest('hex');

void test('a VM with a vTPM', { skip }, async (t) => {
  await using bench = new Bench();
  const { driver, place } = bench;
  const description = describe({ incompressible: 16, compressible: 16, rate: 1000, pcr: 1 });
  const made = await driver.create({ name: 'vm1', description }, place);

  await t.test('runs, and its memory is closed to others', async (t) => {
    using said = new Console(place.memoryDir);
    t.match(await said.line(({ writes }) => writes > 0), { bad: 0, pcr: EXTENDED });
    t.equal((await made.status()).state, 'running');
    t.equal(statSync(place.memoryDir).mode & 0o777, 0o700);
    t.equal(statSync(path.join(place.memoryDir, 'ram')).size, 131_064 * 1024);
    t.match(await made.describe(), { driver: 'qemu', name: 'vm1', vtpm: { kind: 'swtpm' } });
  });

  await t.test('keeps its vTPM encrypted', (t) => {
    const folder = path.join(place.stateDir, 'swtpm');
    t.equal(statSync(folder).mode & 0o777, 0o700);
    const states = readdirSync(folder).filter((name) => name.endsWith('.permall'));
    t.equal(states.length, 1);
    // swtpm's header (swtpm_nvstore.c, blobheader): versions, its size, flags, bit 0 of them: encrypted.
    const state = readFileSync(path.join(folder, states[0] ?? ''));
    t.equal(state.readUInt16BE(4) & 1, 1);
    t.end();
  });

  await t.test('stands still and goes on', async (t) => {
    using said = new Console(place.memoryDir);
    await said.line();
    await made.pause();
    t.equal(made.lifecycle, 'paused');
    t.match(await made.status(), { state: 'paused' });
    const { seq = 0 } = said.lines.at(-1) ?? {};
    await made.resume();
    t.equal(made.lifecycle, 'running');
    t.match(await said.line((line) => line.seq > seq), { bad: 0 });
    t.equal(said.isUnbroken, true);
  });

  await t.test('ends for good', async (t) => {
    await made.destroy();
    t.equal(made.gone.aborted, true);
    await destroyVtpm(place);
    t.same(bench.left, NOTHING);
    t.equal(await driver.attach(place), 'gone');
  });
});

void test('a QEMU that was killed takes its vTPM with it', { skip }, async (t) => {
  await using bench = new Bench();
  const { driver, place } = bench;
  const made = await driver.create({ name: 'vm1', description: describe({}) }, place);
  const { pid } = await made.status();
  const gone = once(made.gone, 'abort');
  process.kill(pid, 'SIGKILL');
  await gone;
  t.equal(await driver.attach(place), 'gone');
  t.equal(bench.left.process, false);
  t.equal(existsSync(path.join(place.stateDir, 'swtpm')), true, 'what is at rest stays');
  await destroyVtpm(place);
  t.equal(existsSync(place.stateDir), false);
});

void test('a guest that powers off leaves its VM standing', { skip }, async (t) => {
  await using bench = new Bench();
  const { driver, place } = bench;
  // Its program wants a vTPM, finds none, and powers off.
  const description = describe({ pcr: 1 }, { tpm: 'none' });
  const made = await driver.create({ name: 'vm1', description }, place);
  t.match(await made.describe(), { vtpm: null });
  using said = new Console(place.memoryDir);
  await said.heard(/Power down/);
  await stands(made);
  t.equal(made.lifecycle, 'paused');
  await t.rejects(made.resume(), { code: 'GUEST_FAILED', detail: /[Rr]eset/ });
  await made.destroy();
  await destroyVtpm(place);
  t.same(bench.left, NOTHING);
});

void test('what cannot be made leaves nothing', { skip }, async (t) => {
  await using bench = new Bench();
  const { driver, place } = bench;
  const cases: Record<string, readonly [object, { code: string; detail: RegExp }]> = {
    'no such machine': [
      { machine: 'pc-q35-99.0' },
      { code: 'GUEST_FAILED', detail: /unsupported machine type/ },
    ],
    'no such kernel': [
      { boot: { kernel: '/nowhere/vmlinuz' } },
      { code: 'GUEST_FAILED', detail: /vmlinuz/ },
    ],
    'no such disk': [
      { disks: [{ file: '/nowhere/a,b.img' }] },
      { code: 'GUEST_FAILED', detail: /a,b\.img/ },
    ],
    'no such option': [{ arguments: ['-fly'] }, { code: 'GUEST_FAILED', detail: /-fly/ }],
    'a size that this QEMU damages': [
      { memory: '128M' },
      { code: 'VM_UNSAFE', detail: /take 131064K/ },
    ],
  };
  for (const [name, [more, refusal]] of Object.entries(cases)) {
    const description = describe({}, more);
    await t.rejects(driver.create({ name: 'vm1', description }, place), refusal, name);
    t.same(bench.left, NOTHING, name);
  }
});

void test('tools that are missing or too old', { skip }, async (t) => {
  await using bench = new Bench();
  const { driver, place } = bench;
  const bin = mkdtempSync(path.join(tmpdir(), 'migd-'));
  const { PATH } = process.env;
  t.teardown(() => {
    process.env['PATH'] = PATH;
    rmSync(bin, { recursive: true });
  });
  const provide = (name: string, says: string): void => {
    writeFileSync(path.join(bin, name), `#!/bin/sh\necho '${says}'\n`);
    chmodSync(path.join(bin, name), 0o755);
  };
  // Made while a compiler can be found.
  const description = describe({});
  const refused = (detail: RegExp): Promise<unknown> =>
    t.rejects(driver.create({ name: 'vm1', description }, place), {
      code: 'QEMU_UNUSABLE',
      detail,
    });
  process.env['PATH'] = bin;
  await refused(/qemu-system-x86_64: .*ENOENT/);
  provide('qemu-system-x86_64', 'QEMU emulator version 7.1.9 (x)');
  provide('swtpm', 'TPM emulator version 0.7.0, x');
  await refused(/7\.1\.9: 7\.2 is the oldest/);
  provide('qemu-system-x86_64', 'QEMU emulator, the newest');
  await refused(/no version/);
  provide('qemu-system-x86_64', 'QEMU emulator version 9.0.0');
  provide('swtpm', 'TPM emulator version 0.6.9, x');
  await refused(/swtpm 0\.6\.9: 0\.7 is the oldest/);
  t.same(bench.left, NOTHING);
});
