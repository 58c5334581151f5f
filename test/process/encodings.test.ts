/** How the pages of a migration went, as its result says; and only in ways that both hosts allow. */
import { test } from 'tap';
import { MiB } from '../../src/base/units.ts';
import type { MigrationResult } from '../../src/migration/report.ts';
import { ENCODING_NAMES } from '../../src/protocol/options.ts';
import { Cluster, smallGuest } from './cluster.ts';

const SLOW = { maxBandwidthBps: 16 * MiB };

const used = ({ encodings }: MigrationResult): string[] =>
  ENCODING_NAMES.filter((name) => encodings[name].pages > 0);

const total = ({ encodings }: MigrationResult, of: 'pages' | 'bytes'): number =>
  ENCODING_NAMES.reduce((sum, name) => sum + encodings[name][of], 0);

void test('a result says how its pages went', async (t) => {
  await using cluster = await Cluster.start({ 'host-a': { config: { engine: 'portable' } } });
  const { a, b } = cluster;
  await a.call('vm.create', smallGuest('vm1', { fill: 0.5 }));
  for (const [from, to, there] of [
    [a, 'host-b', b],
    [b, 'host-a', a],
  ] as const) {
    const result = await from.migrate('vm1', to, { ...SLOW, channels: 2, verify: true });
    t.match(result, { outcome: 'completed', verified: true });
    t.equal(total(result, 'pages'), result.pagesSent);
    t.equal(result.encodings.zero.pages, result.zeroPages);
    t.ok(total(result, 'bytes') < result.bytesSent, 'records have headers and tags');
    t.equal((await there.check('vm1')).badPages, 0);
  }
  const late = await a.migrate('vm1', 'host-b', { ...SLOW, mode: 'post-copy' });
  t.match(late, {
    outcome: 'completed',
    encodings: { delta: { pages: 0 }, duplicate: { pages: 0 } },
  });
  t.equal(total(late, 'pages'), late.pagesSent);
  t.equal((await b.check('vm1')).badPages, 0);
});

void test('pages go only in ways that both hosts allow', async (t) => {
  const encodings = ['raw', 'zstd'];
  await using cluster = await Cluster.start({ 'host-b': { config: { encodings } } });
  const { a, b } = cluster;
  await a.call('vm.create', smallGuest('vm1', { fill: 0.5 }));
  const result = await a.migrate('vm1', 'host-b', SLOW);
  t.match(result, { outcome: 'completed', zeroPages: 0 });
  t.ok(used(result).every((name) => encodings.includes(name)));
  t.equal((await b.check('vm1')).badPages, 0);
});
