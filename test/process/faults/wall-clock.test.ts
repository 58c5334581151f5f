/**
 * Wall clocks that jump by a day, ahead and back, at both hosts and in every daemon that is started:
 * what decides about a VM knows no time of day.
 */
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import { MiB } from '../../../src/base/units.ts';
import { Field, otherOf, VM } from './field.ts';
import { cellsOf, expected, play, ROWS, titleOf } from './matrix.ts';

const WALL_CLOCK = fileURLToPath(new URL('wall-clock.ts', import.meta.url));

/** Each way to end: undone, settled by the source's record, settled by the destination's. */
const STEPS = ['source.sendRound', 'source.surrender', 'destination-handover.recordActive'];

void test('a wall clock that jumps changes nothing', async (t) => {
  await using field = await Field.start({
    config: { limits: { peerSilenceMs: 4_000 } },
    preload: [WALL_CLOCK],
  });
  // Long enough for the silence of the peer to be looked for a few times.
  const slow = { maxBandwidthBps: MiB, downtimeLimitMs: 60_000 };
  t.match(await field.api(field.at).migrate(VM, otherOf(field.at), slow), { outcome: 'completed' });
  t.same(await field.wrongs(await field.settled()), []);
  const cells = ROWS.filter(({ step, when }) => STEPS.includes(step) && when === 'after')
    .flatMap(cellsOf)
    .filter(({ fault }) => fault === 'both killed' || fault === 'network cut');
  t.equal(cells.length, 2 * STEPS.length);
  for (const cell of cells) {
    await t.test(titleOf(cell), async (t) => {
      t.same(await play(field, cell), { outcome: expected(cell), wrongs: [] });
    });
  }
  t.same(await field.leftOpen(), []);
});
