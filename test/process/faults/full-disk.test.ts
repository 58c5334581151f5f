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
  /** What the operator is told while the disk is full; undefined where the VM waits for room itself. */
  readonly told?: object;
  /** Where it runs in the end. */
  readonly runsAt: 'source' | 'destination';
}

const CASES: readonly Case[] = [
  {
    at: 'before destination.admit',
    isStarved: false,
    told: { code: 'STORE_FAILED' },
    runsAt: 'source',
  },
  {
    at: 'before destination.prepare',
    isStarved: false,
    told: { code: 'VTPM_FAILED' },
    runsAt: 'source',
  },
  {
    at: 'before destination-handover.recordActive',
    isStarved: false,
    told: { outcome: 'completed', detail: '' },
    runsAt: 'destination',
  },
  {
    at: 'before source.surrender',
    isStarved: false,
    told: { outcome: 'completed', detail: '' },
    runsAt: 'destination',
  },
  {
    at: 'before source.surrender',
    isStarved: true,
    told: { code: 'STORE_FAILED' },
    runsAt: 'source',
  },
  {
    at: 'before source-handover.recordGone',
    isStarved: true,
    told: { outcome: 'completed', detail: /^STORE_FAILED/ },
    runsAt: 'destination',
  },
  {
    at: 'before destination-handover.recordActive',
    isStarved: true,
    runsAt: 'destination',
  },
];

void test('a full disk', { skip: skipUnlessMounting }, async (t) => {
  await using field = await Field.start();
  using disk = await smallDisk(field);
  const { stateDir } = disk;
  for (const { at, isStarved, told, runsAt } of CASES) {
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
        field.conductor.go();
        if (told === undefined) {
          await eventually('it says what it waits for', async () => {
            const rows = await field.api(SMALL).call<{ phase: string; code: string }[]>('status');
            return rows.some(({ phase, code }) => phase === 'in-doubt' && code === 'STORE_FAILED');
          });
        } else {
          t.match(await asked, told);
          const running = field.api(runsAt === 'source' ? source : destination);
          await eventually('it runs while the disk is full', async () => {
            const { guest } = await running.show(VM);
            return guest?.['state'] === 'running';
          });
        }
      }
      t.equal(await field.settled(), runsAt === 'source' ? source : destination);
      await asked;
      t.same(await field.wrongs(field.at), []);
    });
  }
  t.same(await field.leftOpen(), []);
});

void test('a daemon that starts on a full disk', { skip: skipUnlessMounting }, async (t) => {
  await using field = await Field.start();
  using disk = await smallDisk(field);
  t.same(await field.moves(), []);
  const reached = field.conductor.stopAt('before source.surrender');
  const asked = answerOf(field.api(SMALL).migrate(VM, otherOf(SMALL)));
  await reached;
  await starve(path.join(disk.stateDir, 'records.lmdb'));
  {
    using _full = filled(disk.stateDir);
    await field.kill(SMALL);
    await asked;
    await field.startHost(SMALL);
    const { guest } = await field.api(SMALL).show(VM);
    t.equal(guest?.['state'], 'running', 'what was held for the migration goes on');
  }
  field.conductor.go();
  t.equal(await field.settled(), SMALL);
  t.same(await field.wrongs(SMALL), []);
  t.same(await field.leftOpen(), []);
});

/** Puts the state directory of the small host on a file system of its own. */
async function smallDisk(field: Field): Promise<Disposable & { readonly stateDir: string }> {
  const { stateDir } = field.cluster.get(SMALL);
  await field.kill(SMALL);
  const disk = mounted(stateDir, 2 * MiB);
  await field.startHost(SMALL);
  return { stateDir, [Symbol.dispose]: () => disk[Symbol.dispose]() };
}

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
