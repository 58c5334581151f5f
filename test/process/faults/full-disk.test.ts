/**
 * The state directory of one host on a file system that is filled to the last byte when a step of the
 * protocol is reached. Before the surrender that is an abort at worst; after it the host waits, keeps
 * everything, and goes on when there is room again. Only root can mount such a disk.
 */
import { truncateSync } from 'node:fs';
import path from 'node:path';
import { open } from 'lmdb';
import { test } from 'tap';
import { MiB } from '../../../src/base/units.ts';
import { answerOf, eventually } from '../refusal.ts';
import { filled, mounted, skipUnlessMounting } from '../small-disk.ts';
import { Field, otherOf, VM } from './field.ts';

/** Its disk is the small one. */
const SMALL = 'host-b';

interface Case {
  readonly at: string;
  /** Whether the room that the store keeps for itself is used up as well. */
  readonly isStarved: boolean;
  /** A step by which it is seen that a write has failed and is waited for. */
  readonly waits?: string;
  /** What the operator is told in the end, and where the VM runs. */
  readonly code: string | null;
  readonly runsAt: 'source' | 'destination';
}

const CASES: readonly Case[] = [
  { at: 'before destination.admit', isStarved: false, code: 'STORE_FAILED', runsAt: 'source' },
  { at: 'before destination.prepare', isStarved: false, code: 'VTPM_FAILED', runsAt: 'source' },
  {
    at: 'before destination-handover.recordActive',
    isStarved: false,
    code: null,
    runsAt: 'destination',
  },
  { at: 'before source.surrender', isStarved: false, code: null, runsAt: 'destination' },
  { at: 'before source.surrender', isStarved: true, code: 'STORE_FAILED', runsAt: 'source' },
  {
    at: 'before source-handover.recordGone',
    isStarved: true,
    waits: 'before source-handover.retryLater',
    code: null,
    runsAt: 'destination',
  },
  {
    at: 'before destination-handover.recordActive',
    isStarved: true,
    waits: 'before destination-handover.retryLater',
    code: null,
    runsAt: 'destination',
  },
];

void test('a full disk', { skip: skipUnlessMounting }, async (t) => {
  await using field = await Field.start();
  const { stateDir } = field.cluster.get(SMALL);
  await field.kill(SMALL);
  using _disk = mounted(stateDir, 2 * MiB);
  await field.startHost(SMALL);
  for (const { at, isStarved, waits, code, runsAt } of CASES) {
    await t.test(`full ${at}${isStarved ? ', the store’s own room too' : ''}`, async (t) => {
      const isSource = /^\w+ source/.test(at);
      if ((field.at === SMALL) !== isSource) t.same(await field.moves(), []);
      const source = field.at;
      const destination = otherOf(source);
      const reached = field.conductor.stopAt(at);
      const asked = answerOf(field.api(source).migrate(VM, destination));
      await reached;
      if (isStarved) await starve(path.join(stateDir, 'records.lmdb'));
      {
        using _full = filled(stateDir);
        for (const step of waits === undefined ? [] : [waits, waits]) {
          await field.conductor.stopAt(step);
        }
        field.conductor.go();
        if (waits === undefined) {
          t.match(await asked, { code });
          const running = field.api(runsAt === 'source' ? source : destination);
          await eventually('it runs while the disk is full', async () => {
            const { guest } = await running.show(VM);
            return guest?.['state'] === 'running';
          });
        }
      }
      t.equal(await field.settled(), runsAt === 'source' ? source : destination);
      t.match(await asked, { code });
      t.same(await field.wrongs(field.at), []);
    });
  }
  t.same(await field.leftOpen(), []);
});

/** Takes what the store keeps for itself beyond its last page. Its daemon stands still. */
async function starve(file: string): Promise<void> {
  const records = open({ path: file, readOnly: true });
  const { lastPageNumber, pageSize } = records.getStats() as Stats;
  await records.close();
  truncateSync(file, (lastPageNumber + 1) * pageSize);
}

/** Of the whole file (LMDB: mdb_env_info, mdb_stat). */
interface Stats {
  readonly lastPageNumber: number;
  readonly pageSize: number;
}
