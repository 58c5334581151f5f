/** Guest processes that outlive their daemon, and the spare that must not. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import { destroyVtpm, type VmPlace, type EmbeddedSpec } from '../../src/guest/driver.ts';
import { RamDriver } from '../../src/guest/ram/driver.ts';

const DRIVING = fileURLToPath(new URL('driving.ts', import.meta.url));

function scratch(): Disposable & { readonly place: VmPlace } {
  const dir = mkdtempSync('/dev/shm/guest-');
  const place = {
    name: 'vm1',
    memoryDir: path.join(dir, 'memory'),
    stateDir: path.join(dir, 'state'),
  };
  return { place, [Symbol.dispose]: () => rmSync(dir, { recursive: true }) };
}

const spec: EmbeddedSpec = {
  name: 'vm1',
  memoryBytes: MiB,
  vcpus: 1,
  workload: { kind: 'idle' },
  fill: 0,
  dirtyTracking: 'auto',
};

/** Children of a process that live, by the kernel's own list. */
const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);

const isAlive = (pid: number): boolean => {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
};

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) {
    await new Promise((resolve) => {
      setTimeout(resolve, 2);
    });
  }
}

async function drive(place: VmPlace): Promise<{ daemon: ChildProcess; guestPid: number }> {
  const args = [DRIVING, place.memoryDir, place.stateDir];
  const daemon = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(createInterface(daemon.stdout), 'line')) as [string];
  const { pid } = JSON.parse(line) as { pid: number };
  return { daemon, guestPid: pid };
}

void test('a killed daemon leaves its guest running and its spare not', async (t) => {
  using dir = scratch();
  const { daemon, guestPid } = await drive(dir.place);
  const { pid = 0 } = daemon;
  await until(() => childrenOf(pid).some((each) => each !== guestPid));
  const spares = childrenOf(pid).filter((each) => each !== guestPid);
  t.equal(spares.length, 1);
  const exited = once(daemon, 'exit');
  daemon.kill('SIGKILL');
  await exited;
  await until(() => !spares.some(isAlive));
  t.ok(isAlive(guestPid));

  const driver = new RamDriver({ keepSpare: false });
  const guest = await driver.attach(dir.place);
  if (typeof guest === 'string') throw new Error(`the guest is ${guest}`);
  t.equal(guest.lifecycle, 'running');
  const status = await guest.status();
  t.match(status, { state: 'running', pid: guestPid });
  t.match(await guest.check(), { badPages: 0 });
  await guest.destroy();
  t.notOk(isAlive(guestPid), 'though it is no child of ours');
  t.notOk(existsSync(dir.place.memoryDir));
  await destroyVtpm(dir.place);
});

void test('a driver that closes ends its spare, even one that was never needed', async (t) => {
  const before = childrenOf(process.pid);
  const driver = new RamDriver({ keepSpare: true });
  const spares = childrenOf(process.pid).filter((each) => !before.includes(each));
  t.equal(spares.length, 1);
  await driver.close();
  t.notOk(spares.some(isAlive));
});

void test('a spare becomes the guest, and the next one follows', async (t) => {
  using dir = scratch();
  const driver = new RamDriver({ keepSpare: true });
  const [spare] = childrenOf(process.pid);
  const guest = await driver.create(spec, dir.place);
  t.equal((await guest.status()).pid, spare);
  await until(() => childrenOf(process.pid).some((each) => each !== spare));
  await driver.close();
  t.same(childrenOf(process.pid), [spare]);
  await guest.destroy();
  await destroyVtpm(dir.place);
});

void test('a spare that was killed is not missed', async (t) => {
  using dir = scratch();
  const driver = new RamDriver({ keepSpare: true });
  const [spare = 0] = childrenOf(process.pid);
  process.kill(spare, 'SIGKILL');
  await until(() => !childrenOf(process.pid).includes(spare));
  const guest = await driver.create(spec, dir.place);
  t.equal((await guest.status()).state, 'running');
  await driver.close();
  await guest.destroy();
  await destroyVtpm(dir.place);
});

void test('a rehearsal leaves nothing behind', async (t) => {
  using dir = scratch();
  const held = process.env['TMPDIR'];
  process.env['TMPDIR'] = path.dirname(dir.place.memoryDir);
  const driver = new RamDriver({ keepSpare: true });
  if (held === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = held;
  const below = () => readdirSync(path.dirname(dir.place.memoryDir));
  // The rehearsal is seen, so that the test cannot pass without one.
  await until(() => below().some((name) => name.startsWith('migd-rehearsal-')));
  await driver.close();
  t.same(below(), []);
});
