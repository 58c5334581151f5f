/**
 * A guest that runs at the destination while its memory comes: all of it, or what a few rounds left. Every
 * page is right, whoever waited for it, and whatever broke meanwhile.
 */
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import type { MigrationEvent, MigrationResult } from '../../src/migration/report.ts';
import { Wire } from '../attack/wire.ts';
import { afterBytes, cutAll, inPhase } from './breaking.ts';
import { Cluster, smallGuest, type Api } from './cluster.ts';
import { runsOn } from './refusal.ts';

const MEMORY_BYTES = 16 * MiB;
/** Writes where it has not been for longest: to pages that have not come. */
const WRITING = {
  memoryBytes: MEMORY_BYTES,
  fill: 1,
  workload: { kind: 'writer', rateBps: 10e6, workingSetBytes: MEMORY_BYTES },
};
const PAGES = MEMORY_BYTES / 4096;

/** It runs at the destination, whole, and nowhere else. */
async function isWhole(t: Parameters<typeof runsOn>[0], b: Api): Promise<void> {
  const check = await b.check('vm');
  t.equal(check.badPages, 0);
  t.equal(check.versionSum, check.registerSum, 'no write is lost');
  await runsOn(t, b, 'vm');
}

const moved = ({ postCopy }: MigrationResult): number =>
  (postCopy?.pushedPages ?? 0) + (postCopy?.demandedPages ?? 0);

for (const [channels, form] of [
  [1, 'tls'],
  [4, 'sealed'],
] as const) {
  void test(`over ${channels} channel(s) in form ${form}`, async (t) => {
    await using cluster = await Cluster.start();
    const { a, b } = cluster;

    await t.test('post-copy: it runs before any page is there', async (t) => {
      await a.call('vm.create', smallGuest('vm', WRITING));
      const result = await a.migrate('vm', 'host-b', { mode: 'post-copy', channels, form });
      t.match(result, {
        outcome: 'completed',
        code: null,
        mode: 'post-copy',
        stoppedBy: 'post-copy',
        rounds: [{ n: 0, pages: 0 }],
        vtpm: { moved: true, deletedAtSource: true },
      });
      t.ok(moved(result) >= PAGES, 'every page came');
      t.ok((result.postCopy?.faults?.network ?? 0) > 0, 'some because it waited for them');
      await isWhole(t, b);
      await t.rejects(
        a.show('vm').then(({ guest }) => guest?.['pid'] ?? Promise.reject(new Error())),
      );
      await b.call('vm.delete', { name: 'vm' });
    });

    await t.test('hybrid: what a guest that writes too fast leaves follows', async (t) => {
      await a.call('vm.create', smallGuest('vm', WRITING));
      const events: MigrationEvent[] = [];
      const result = await a.migrate(
        'vm',
        'host-b',
        { mode: 'hybrid', channels, form, maxBandwidthBps: 8 * MiB, downtimeLimitMs: 10 },
        (event) => events.push(event),
      );
      t.match(result, { outcome: 'completed', code: null, stoppedBy: 'post-copy' });
      t.ok(result.rounds.length >= 2, 'after a round of all pages');
      t.ok(moved(result) > 0 && moved(result) < 2 * PAGES);
      t.ok(events.some(inPhase('post-copy')));
      await isWhole(t, b);
      await b.call('vm.delete', { name: 'vm' });
    });

    // What is decided does not depend on the channels.
    if (channels > 1) return;

    await t.test('hybrid: one that fits into the downtime is all there when it runs', async (t) => {
      await a.call('vm.create', smallGuest('vm', { memoryBytes: MEMORY_BYTES, fill: 1 }));
      const result = await a.migrate('vm', 'host-b', { mode: 'hybrid', channels, form });
      t.match(result, { outcome: 'completed', stoppedBy: 'downtime-limit', postCopy: null });
      await isWhole(t, b);
      await b.call('vm.delete', { name: 'vm' });
    });

    await t.test('when the time is over, it runs on there', async (t) => {
      await a.call('vm.create', smallGuest('vm', WRITING));
      // In a round, or before there was one: whichever it is on this machine.
      const options = { timeoutMs: 2000, onTimeout: 'post-copy', maxBandwidthBps: 8 * MiB };
      const result = await a.migrate('vm', 'host-b', {
        ...options,
        channels,
        form,
        downtimeLimitMs: 1,
        roundsMax: 1000,
      });
      t.match(result, { outcome: 'completed', code: null, detail: '', stoppedBy: 'timeout' });
      await isWhole(t, b);
    });
  });
}

const config = { limits: { reconnectMs: 20_000, peerSilenceMs: 2_000 } };
/** A cap, so that there is a middle in which something can break. */
const SLOWLY = { mode: 'post-copy', maxBandwidthBps: 8 * MiB, channels: 1 } as const;

void test('a connection that breaks while pages come', async (t) => {
  await using wire = await Wire.start({ channels: 2, config });
  const { a, b } = wire.cluster;

  await t.test('the guest waits, and the rest comes in another session', async (t) => {
    await a.call('vm.create', smallGuest('vm', WRITING));
    afterBytes(wire, MEMORY_BYTES / 2, () => cutAll(wire));
    const result = await a.migrate('vm', 'host-b', SLOWLY);
    t.match(result, { outcome: 'completed', code: null, resumes: 1, postCopy: { resumes: 1 } });
    // What was on its way in sockets at the cut is sent again, and no more.
    t.ok(moved(result) < 1.5 * PAGES, `${moved(result)} pages of ${PAGES}`);
    await isWhole(t, b);
    await b.call('vm.delete', { name: 'vm' });
  });

  await t.test('it cannot be cancelled any more, and says so', async (t) => {
    await a.call('vm.create', smallGuest('vm', WRITING));
    let cancelled: Promise<unknown> | undefined;
    const result = await a.migrate('vm', 'host-b', SLOWLY, (event) => {
      if (!inPhase('post-copy')(event)) return;
      const { migrationId } = event;
      cancelled = a.call('cancel', { migrationId }).then(
        () => 'cancelled',
        ({ code }: { code: string }) => code,
      );
    });
    t.match(result, { outcome: 'completed' });
    t.equal(await cancelled, 'CANCEL_TOO_LATE');
    await isWhole(t, b);
  });
});
