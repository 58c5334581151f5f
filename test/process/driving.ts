/**
 * A daemon's part, to be killed: `driving.ts MEMORY STATE [STEP [TRACKING]]` makes a guest, takes it
 * as far as STEP, says the guest's status in one line, and waits. One that comes from elsewhere is
 * packed in the folder beside.
 */
import path from 'node:path';
import type { PagedGuest, EmbeddedSpec } from '../../src/guest/driver.ts';
import { RamDriver } from '../../src/guest/ram/driver.ts';
import { MiB } from '../../src/base/units.ts';
import { packedDescriptor, unpack } from './packed-guest.ts';

const [memoryDir = '', stateDir = '', step = 'run', tracking] = process.argv.slice(2);
const place = { name: 'vm1', memoryDir, stateDir };
const packed = path.join(path.dirname(memoryDir), 'packed');
const driver = new RamDriver({ keepSpare: step === 'run' });

const create = (): Promise<PagedGuest> =>
  driver.create(
    {
      name: 'vm1',
      memoryBytes: 4 * MiB,
      vcpus: 1,
      workload: { kind: 'writer', rateBps: 40e6, workingSetBytes: MiB },
      fill: 0.5,
      dirtyTracking: (tracking ?? 'auto') as EmbeddedSpec['dirtyTracking'],
    },
    place,
  );

async function track(guest: PagedGuest): Promise<PagedGuest> {
  await guest.trackDirty();
  await guest.collectDirty('replace');
  return guest;
}

async function hold(guest: PagedGuest): Promise<PagedGuest> {
  await guest.hold();
  return guest;
}

/** Ends before the guest has answered. */
function holding(guest: PagedGuest): PagedGuest {
  void guest.hold();
  process.kill(process.pid, 'SIGKILL');
  return guest;
}

const prepare = (): Promise<PagedGuest> => driver.prepare(packedDescriptor(packed), place);

async function load(guest: PagedGuest): Promise<PagedGuest> {
  unpack(packed, guest);
  await guest.importState();
  return guest;
}

const STEPS: Readonly<Record<string, () => Promise<PagedGuest>>> = {
  run: create,
  track: async () => track(await create()),
  hold: async () => hold(await create()),
  holding: async () => holding(await create()),
  prepare,
  import: async () => load(await prepare()),
};

const guest = await STEPS[step]?.();
console.log(JSON.stringify(await guest?.status()));
setInterval(() => undefined, 1000);
