import { MiB } from '../../src/base/units.ts';
import { Cluster, smallGuest } from './cluster.ts';
const M = 64 * MiB;
const cluster = await Cluster.start();
const { a, b } = cluster;
await a.call(
  'vm.create',
  smallGuest('vm', {
    memoryBytes: M,
    fill: 1,
    workload: { kind: 'writer', rateBps: 20e6, workingSetBytes: M / 2 },
  }),
);
const t0 = performance.now();
const p = a.migrate(
  'vm',
  'host-b',
  {
    mode: process.argv[2] ?? 'post-copy',
    channels: Number(process.argv[3] ?? 1),
    form: process.argv[4] ?? 'tls',
  },
  (e) => console.log(Math.round(performance.now() - t0), e.event, 'phase' in e ? e.phase : ''),
);
const r = await Promise.race([p, new Promise((r) => setTimeout(() => r('late'), 4000))]);
console.log(JSON.stringify(r));
for (const d of cluster.daemons.values()) console.log(d.log.slice(-14).join('\n'));
console.log(JSON.stringify(await b.show('vm').catch((e) => e)).slice(0, 600));
if (r !== 'late') console.log(await b.check('vm'));
await Promise.race([cluster[Symbol.asyncDispose](), new Promise((r) => setTimeout(r, 3000))]);
process.exit();
