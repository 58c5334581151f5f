/**
 * What a migration costs before a single page counts: a guest of 1 MiB that does nothing, from the
 * request to the result, with each part of it. Beside it the bare handshake: mutual TLS 1.3 with the
 * post-quantum exchange, to the same daemon, right before each migration.
 */
import { once } from 'node:events';
import { connect } from 'node:tls';
import { MiB } from '../src/base/units.ts';
import { loadIdentity } from '../src/crypto/pki/identity.ts';
import type { MigrationResult } from '../src/migration/report.ts';
import { clientOptions, CONTROL_ALPN } from '../src/transport/tls.ts';
import { Cluster } from '../test/process/cluster.ts';
import { IS_SHORT, rest } from './pace.ts';
import type { Report } from './report.ts';
import { pairwise, show, spread } from './stats.ts';
import { Traveller } from './traveller.ts';

const RUNS = IS_SHORT ? 3 : 25;
const TOTAL_MS_GOAL = 100;

const PARTS = {
  'session (TLS with post-quantum exchange)': ({ setupMs }) => setupMs,
  'attestation (two appraisals)': ({ attestMs }) => attestMs,
  'transfer (admission, channel, pages, pause)': ({ transferMs }) => transferMs,
  'handover and deletion': ({ handoverMs }) => handoverMs,
  'downtime, in the last two': ({ downtimeMs }) => downtimeMs ?? Number.NaN,
  'whole migration': ({ totalMs }) => totalMs,
} as const satisfies Readonly<Record<string, (result: MigrationResult) => number>>;

async function handshakeMs(cluster: Cluster): Promise<number> {
  const { host, port } = cluster.get('host-b').listen;
  const identity = loadIdentity(cluster.certs, 'host-a');
  const startedAt = performance.now();
  const socket = connect({ ...clientOptions(identity, CONTROL_ALPN), host, port });
  await once(socket, 'secureConnect');
  const ms = performance.now() - startedAt;
  socket.destroy();
  return ms;
}

export async function fixedCost(): Promise<Report> {
  await using cluster = await Cluster.start();
  const guest = await Traveller.create(cluster, 'vm1', { memoryBytes: MiB });
  // There and back, so that both daemons have done everything once.
  for (const _ of ['there', 'back']) await guest.move();
  const results: MigrationResult[] = [];
  const handshakes: number[] = [];
  for (let run = 0; run < RUNS; run += 1) {
    await rest();
    handshakes.push(await handshakeMs(cluster));
    results.push(await guest.move());
  }
  const totals = results.map(({ totalMs }) => totalMs);
  return {
    name: 'fixed-cost',
    title: 'A guest of 1 MiB, idle: what a migration costs whatever the memory',
    unit: 'ms',
    bars: [
      { label: 'bare TLS handshake', value: spread(handshakes), yardstick: true },
      ...Object.entries(PARTS).map(([label, part]) => ({
        label,
        value: spread(results.map(part)),
      })),
    ],
    findings: [
      `whole migration ${show(spread(totals), 1)} ms (must be at most ${TOTAL_MS_GOAL})`,
      `${show(spread(pairwise(totals, handshakes)), 1)} bare handshakes`,
    ],
    runs: {
      handshakes,
      ...Object.fromEntries(
        Object.entries(PARTS).map(([label, part]) => [label, results.map(part)]),
      ),
    },
  };
}
