/** A process that makes a guest, says its pid and its spare's, and waits to be killed: a daemon's part. */
import { RamDriver } from '../../src/guest/ram/driver.ts';
import { MiB } from '../../src/base/units.ts';

const [memoryDir = '', stateDir = ''] = process.argv.slice(2);
const driver = new RamDriver({ keepSpare: true });
const guest = await driver.create(
  {
    name: 'vm1',
    memoryBytes: 4 * MiB,
    vcpus: 1,
    workload: { kind: 'writer', rateBps: 40e6, workingSetBytes: MiB },
    fill: 0.5,
    dirtyTracking: 'auto',
  },
  { name: 'vm1', memoryDir, stateDir },
);
const { pid } = await guest.status();
console.log(JSON.stringify({ pid }));
setInterval(() => undefined, 1000);
