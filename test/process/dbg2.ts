// post-copy broken in the middle
import { MiB } from '../../src/base/units.ts';
import { smallGuest } from './cluster.ts';
import { Wire } from '../attack/wire.ts';
const M = 64 * MiB;
const wire = await Wire.start({
  channels: 2,
  config: { limits: { reconnectMs: 20_000, peerSilenceMs: 2_000 } },
});
const { a, b } = wire.cluster;
await a.call(
  'vm.create',
  smallGuest('vm', {
    memoryBytes: M,
    fill: 1,
    workload: { kind: 'writer', rateBps: 20e6, workingSetBytes: M / 2 },
  }),
);
const t0 = performance.now();
let left = M / 2;
let cuts = 0;
for (const r of wire.data)
  r.rules = {
    pass: (x) => {
      left -= x.length;
      if (left <= 0 && cuts < 1) {
        cuts += 1;
        left = M / 8;
        console.log('cut');
        for (const q of wire.relays) q.cut();
      }
      return x;
    },
  };
const p = a.migrate(
  'vm',
  'host-b',
  {
    mode: process.argv[2] ?? 'post-copy',
    channels: 1,
    form: process.argv[3] ?? 'tls',
    maxBandwidthBps: 32 * MiB,
  },
  (e) => console.log(Math.round(performance.now() - t0), e.event, 'phase' in e ? e.phase : ''),
);
const r = await Promise.race([p, new Promise((r) => setTimeout(() => r('late'), 9000))]);
console.log(JSON.stringify(r).slice(0, 1500));
for (const d of wire.cluster.daemons.values())
  console.log(
    d.log
      .filter((l) => !l.includes('"event"'))
      .slice(-14)
      .join('\n'),
  );
console.log(JSON.stringify(await b.show('vm').catch((e) => e)).slice(0, 600));
if (r !== 'late') console.log(await b.check('vm'));
await Promise.race([wire[Symbol.asyncDispose](), new Promise((r) => setTimeout(r, 3000))]);
process.exit();
