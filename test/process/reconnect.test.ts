/**
 * Connections that break in the rounds, between two real daemons: the migration goes on from what the
 * destination holds, and every page is right.
 */
import { test } from 'tap';
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
