/**
 * Connections that break in the rounds, between two real daemons: the migration goes on from what the
 * destination holds, and every page is right.
 */
import { test } from 'tap';
import { KiB, MiB } from '../../src/base/units.ts';
import { Wire } from '../attack/wire.ts';
import { afterBytes, config, cutAll, IN_ROUND, inPhase, PACE, WRITING } from './breaking.ts';
import { smallGuest } from './cluster.ts';
import { runsOn } from './refusal.ts';

type Breaking = (wire: Wire) => void;
const WAYS: Readonly<Record<string, Breaking>> = {
  'the control connection is cut': ({ control }) => control.cut(),
  'a data channel is cut': ({ data }) => data[0]?.cut(),
  'all connections are cut': cutAll,
  'nothing passes any more, for a while': ({ relays }) => {
    for (const relay of relays) relay.hold();
  },
};

/** With more channels, what concerns one of several, or all. */
const CASES: readonly (readonly [channels: number, ways: readonly string[]])[] = [
  [1, Object.keys(WAYS)],
  [4, ['a data channel is cut', 'all connections are cut']],
];

for (const [channels, ways] of CASES) {
  void test(`over ${channels} channel(s)`, async (t) => {
    await using wire = await Wire.start({ channels, config });
    const { a, b } = wire.cluster;
    for (const [what, breaking] of Object.entries(WAYS)) {
      if (!ways.includes(what)) continue;
      for (const [round, bytes] of IN_ROUND.entries()) {
        await t.test(`${what} in round ${round}`, async (t) => {
          await a.call('vm.create', smallGuest('vm', WRITING));
          afterBytes(wire, bytes, () => breaking(wire));
          const result = await a.migrate('vm', 'host-b', { ...PACE, channels }, (event) => {
            // What was held back comes late, to a session that is over.
            if (inPhase('reconnecting')(event)) for (const relay of wire.relays) relay.release();
          });
          t.match(result, { outcome: 'completed', code: null, verified: true, resumes: 1 });
          t.equal((await b.check('vm')).badPages, 0);
          await runsOn(t, b, 'vm');
          await b.call('vm.delete', { name: 'vm' });
        });
      }
    }
  });
}

void test('while hot pages are left for last, and the guest is throttled', async (t) => {
  await using wire = await Wire.start({ channels: 2, config });
  const { a, b } = wire.cluster;
  // More of it is written in a round than fits into the downtime limit.
  const workload = { kind: 'writer', rateBps: 10e6, workingSetBytes: 2 * MiB };
  await a.call('vm.create', smallGuest('vm', { memoryBytes: 4 * MiB, workload }));
  const options = { maxBandwidthBps: 4 * MiB, downtimeLimitMs: 300, roundsMax: 1000 };
  let throttled = 0;
  let cuts = 0;
  const result = await a.migrate(
    'vm',
    'host-b',
    { ...options, autoConverge: true, verify: true, channels: 2 },
    (event) => {
      if (event.event === 'throttle' && event.percent > 0) throttled += 1;
      // The next round leaves pages out as well, and has just begun.
      if (event.event !== 'round' || event.deferredPages === 0 || cuts > 0 || throttled === 0)
        return;
      cuts += 1;
      afterBytes(wire, 256 * KiB, () => cutAll(wire));
    },
  );
  t.match(result, { outcome: 'completed', code: null, verified: true, resumes: 1 });
  t.ok(throttled > 0);
  t.equal((await b.check('vm')).badPages, 0);
  await runsOn(t, b, 'vm');
});
