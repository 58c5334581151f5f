/**
 * How fast a whole guest moves, against what Node's own sockets and ciphers do with the same bytes
 * between two processes of the same machine. Every migration is a real one between two daemons with
 * every protection on; the guest goes to and fro. A bare TLS socket runs right before each of them,
 * and they are compared with that one.
 *
 * Two figures a migration: how fast its pages moved (all rounds, from the first record sealed to the
 * last one confirmed), and the whole of it, from the request to the deletion at the source.
 */
import { createCipheriv, randomBytes } from 'node:crypto';
import { GiB, KiB, MiB } from '../src/base/units.ts';
import { SUITES } from '../src/crypto/suites.ts';
import { SUITE_NAMES, type SuiteName } from '../src/protocol/options.ts';
import type { RoundReport } from '../src/migration/report.ts';
import { Cluster } from '../test/process/cluster.ts';
import { BarePair } from './bare-pair.ts';
import { IS_SHORT, rest } from './pace.ts';
import type { Bar } from './plot.ts';
import type { Report } from './report.ts';
import { pairwise, show, spread } from './stats.ts';
import { Traveller } from './traveller.ts';

const MEMORY_BYTES = IS_SHORT ? 256 * MiB : GiB;
const RUNS = IS_SHORT ? 2 : 5;
const CHANNELS = IS_SHORT ? [1] : [1, 2, 4];
const [DEFAULT_SUITE] = SUITE_NAMES;
/** What form `tls` (sealed records inside TLS) must reach of a bare TLS socket. */
const RATIO_MIN = 0.75;

interface Contestant {
  readonly suite: SuiteName;
  readonly channels: number;
  /** GB/s, run by run. */
  readonly pages: number[];
  readonly whole: number[];
  /** The bare TLS socket that ran right before. */
  readonly bareTls: number[];
}

const gigabytesPerSecond = (bytes: number, ms: number): number => bytes / ms / 1e6;

const sumOfMs = (rounds: readonly RoundReport[]): number =>
  rounds.reduce((sum, { durationMs }) => sum + durationMs, 0);

/** One core, pieces as large as our records. */
function cipherSpeed(suite: SuiteName): number {
  const { cipher, nonceBytes } = SUITES[suite];
  const [key, nonce, piece] = [randomBytes(32), randomBytes(nonceBytes), randomBytes(256 * KiB)];
  const total = 256 * MiB;
  const startedAt = performance.now();
  for (let done = 0; done < total; done += piece.length) {
    const sealing = createCipheriv(cipher as 'aes-256-gcm', key, nonce, { authTagLength: 16 });
    sealing.update(piece);
    sealing.final();
  }
  return gigabytesPerSecond(total, performance.now() - startedAt);
}

export async function throughput(): Promise<Report> {
  await using cluster = await Cluster.start();
  using tls = await BarePair.start('tls', MEMORY_BYTES, cluster.certs);
  using tcp = await BarePair.start('tcp', MEMORY_BYTES, cluster.certs);
  const spec = { memoryBytes: MEMORY_BYTES, fill: 1 };
  const guest = await Traveller.create(cluster, 'vm1', spec);
  const contestants = SUITE_NAMES.flatMap((suite) =>
    CHANNELS.map((channels): Contestant => {
      return { suite, channels, pages: [], whole: [], bareTls: [] };
    }),
  );
  const bareTcp: number[] = [];
  const ciphers = new Map(SUITE_NAMES.map((suite) => [suite, [] as number[]]));
  // The first run of each warms what is warm in a daemon that has been up for a while.
  for (let run = -1; run < RUNS; run += 1) {
    const tcpMs = await tcp.run();
    if (run >= 0) bareTcp.push(gigabytesPerSecond(MEMORY_BYTES, tcpMs));
    for (const contestant of contestants) {
      await rest();
      const bareMs = await tls.run();
      const { suite, channels } = contestant;
      const { rounds, totalMs } = await guest.move({ suite, channels });
      if (run < 0) continue;
      contestant.bareTls.push(gigabytesPerSecond(MEMORY_BYTES, bareMs));
      contestant.pages.push(gigabytesPerSecond(MEMORY_BYTES, sumOfMs(rounds)));
      contestant.whole.push(gigabytesPerSecond(MEMORY_BYTES, totalMs));
    }
    if (run >= 0) for (const [suite, speeds] of ciphers) speeds.push(cipherSpeed(suite));
  }
  return reportOf(contestants, bareTcp, ciphers);
}

const titleOf = ({ suite, channels }: Contestant): string =>
  `${suite}, ${channels} ${channels === 1 ? 'channel' : 'channels'}`;

function reportOf(
  contestants: readonly Contestant[],
  bareTcp: readonly number[],
  ciphers: ReadonlyMap<SuiteName, readonly number[]>,
): Report {
  const bareTls = contestants.flatMap((contestant) => contestant.bareTls);
  const bars: Bar[] = [
    ...[...ciphers].map(([suite, speeds]) => ({
      label: `node:crypto alone, ${SUITES[suite].cipher}`,
      value: spread(speeds),
      yardstick: true,
    })),
    { label: 'bare TCP socket', value: spread(bareTcp), yardstick: true },
    { label: 'bare TLS 1.3 socket', value: spread(bareTls), yardstick: true },
    ...contestants.map((each) => ({ label: titleOf(each), value: spread(each.pages) })),
  ];
  const findings = contestants.flatMap((each) => {
    const goal = each.suite === DEFAULT_SUITE ? ` (must reach ${RATIO_MIN})` : '';
    const pages = show(spread(pairwise(each.pages, each.bareTls)));
    const whole = show(spread(pairwise(each.whole, each.bareTls)));
    return `${titleOf(each)}: pages ${pages} of a bare TLS socket${goal}; whole migration ${whole}`;
  });
  return {
    name: 'throughput',
    title: `A guest of ${MEMORY_BYTES / MiB} MiB, incompressible, idle`,
    unit: 'GB/s',
    bars,
    findings,
    runs: { contestants, bareTcp, ciphers: Object.fromEntries(ciphers) },
  };
}
