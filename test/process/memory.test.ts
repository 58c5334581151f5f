/**
 * What a daemon needs of memory for itself while a 4 GiB guest migrates: below 96 MiB.
 *
 * The kernel counts a process's resident memory in three parts (proc_pid_status(5)). RssShmem is
 * tmpfs: the guest's RAM and its exchange file, which source and guest process map together, and
 * nothing else. RssAnon is what the daemon allocated: heaps, stacks, buffers of all its threads: this
 * is what is bounded. RssFile are pages of files that are mapped, nearly all of them the Node executable:
 * once in the machine for all Node processes, never written, given up by the kernel when it needs
 * the room; it does not depend on guests or migrations, which is checked.
 */
import { readFileSync, statfsSync } from 'node:fs';
import { test } from 'tap';
import { GiB, KiB, MiB } from '../../src/base/units.ts';
import { Cluster, type Daemon } from './cluster.ts';

const GUEST_BYTES = 4 * GiB;
const OWN_BYTES_MAX = 96 * MiB;
/** The exchange file: 1 MiB of state, a bit a page. */
const EXCHANGE_BYTES = 2 * MiB;
/** Growth of what is mapped of the executable: code that a migration is the first to run. */
const FILE_GROWTH_BYTES_MAX = 16 * MiB;

interface Resident {
  readonly anon: number;
  readonly file: number;
  readonly shmem: number;
}

function residentOf(daemon: Daemon): Resident {
  const status = readFileSync(`/proc/${daemon.process.pid}/status`, 'utf8');
  const bytes = (name: string): number => {
    const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status);
    if (found === null) throw new Error(`no ${name}`);
    return Number(found[1]) * KiB;
  };
  return { anon: bytes('RssAnon'), file: bytes('RssFile'), shmem: bytes('RssShmem') };
}

const most = (a: Resident, b: Resident): Resident => ({
  anon: Math.max(a.anon, b.anon),
  file: Math.max(a.file, b.file),
  shmem: Math.max(a.shmem, b.shmem),
});

const inMiB = ({ anon, file, shmem }: Resident): string =>
  `anon ${Math.round(anon / MiB)}, file ${Math.round(file / MiB)}, shmem ${Math.round(shmem / MiB)} MiB`;

const shm = statfsSync('/dev/shm');
// At both hosts, and to spare.
const skip =
  shm.bavail * shm.bsize < 2.5 * GUEST_BYTES ? '/dev/shm has no room for two 4 GiB guests' : false;

void test('a 4 GiB guest migrates in little memory', { skip }, async (t) => {
  await using cluster = await Cluster.start();
  const { a, b } = cluster;
  const daemons = [cluster.get('host-a'), cluster.get('host-b')];
  const before = daemons.map(residentOf);
  let peaks = before;
  await a.call('vm.create', {
    name: 'large',
    memoryBytes: GUEST_BYTES,
    fill: 0.03,
    workload: { kind: 'writer', rateBps: 4e6, workingSetBytes: 4 * MiB },
  });
  const sample = () => {
    peaks = daemons.map(residentOf).map((now, i) => most(now, peaks[i] ?? now));
  };
  let samples = 0;
  const result = await a.migrate('large', 'host-b', {}, () => {
    samples += 1;
    sample();
  });
  sample();
  t.match(result, { outcome: 'completed', memoryBytes: GUEST_BYTES });
  t.ok(samples > 8, `${samples} samples during it`);
  for (const [i, { name }] of daemons.entries()) {
    const [start, peak] = [before[i], peaks[i]];
    if (start === undefined || peak === undefined) throw new Error('not sampled');
    t.comment(`${name}: at start ${inMiB(start)}; at most ${inMiB(peak)}`);
    t.ok(peak.anon < OWN_BYTES_MAX, `${name} needs ${Math.round(peak.anon / MiB)} MiB`);
    t.ok(peak.shmem <= GUEST_BYTES + EXCHANGE_BYTES, 'shared memory is the guest’s');
    t.ok(peak.file - start.file < FILE_GROWTH_BYTES_MAX, 'mapped files stay what they were');
  }
  t.match(await b.list(), [{ name: 'large', state: 'running' }]);
  t.equal((await b.check('large')).badPages, 0);
});
