/**
 * How fast a whole guest moves, against what Node's own sockets and ciphers do with the same bytes
 * between two processes of the same machine. Every migration is a real one between two daemons with
 * every protection on; the guest goes to and fro. A bare TLS and a bare TCP socket run right before each
 * of them, and they are compared with those.
 *
 * Two figures a migration: how fast its pages moved (all rounds, from the first record sealed to the
 * last one confirmed), and the whole of it, from the request to the deletion at the source.
 */
import { createCipheriv, randomBytes } from 'node:crypto';
import { GiB, KiB, MiB } from '../src/base/units.ts';
import { SUITES } from '../src/crypto/suites.ts';
import {
  CHANNEL_FORMS,
  SUITE_NAMES,
  type ChannelForm,
  type SuiteName,
} from '../src/protocol/options.ts';
import type { RoundReport } from '../src/migration/report.ts';
import type { Engine } from '../src/transport/connection.ts';
import { Cluster } from '../test/process/cluster.ts';
import { BarePair } from './bare-pair.ts';
import { IS_SHORT, rest } from './pace.ts';
import type { Bar } from './plot.ts';
import type { Report } from './report.ts';
import { pairwise, show, spread } from './stats.ts';
import { Traveller } from './traveller.ts';
import { warm } from './warm.ts';

const MEMORY_BYTES = IS_SHORT ? 256 * MiB : GiB;
const RUNS = IS_SHORT ? 2 : 5;
const CHANNELS = IS_SHORT ? [1] : [1, 2, 4];
const [DEFAULT_SUITE] = SUITE_NAMES;
const ENGINES: readonly Engine[] = ['native', 'portable'];

/** What the default suite must reach over one channel or more. */
const GOALS: { readonly [F in ChannelForm]: string } = {
  tls: 'must reach 0.75 of TLS',
  sealed: 'must reach 1.20 of TLS and 0.80 of TCP',
};

interface Way {
  readonly engine: Engine;
  readonly form: ChannelForm;
  readonly suite: SuiteName;
  readonly channels: number;
}

/** A way, and how fast it was: GB/s, run by run. */
class Contestant {
  readonly way: Way;
  readonly pages: number[] = [];
  readonly whole: number[] = [];
  /** The bare sockets that ran right before. */
  readonly bareTls: number[] = [];
  readonly bareTcp: number[] = [];

  constructor(way: Way) {
    this.way = way;
  }
}

/** Every suite over one channel, the default one over more; Node's streams for comparison. */
function waysOf(form: ChannelForm): Way[] {
  const native = (suite: SuiteName, channels: number): Way => ({
    engine: 'native',
    form,
    suite,
    channels,
  });
  return [
    ...CHANNELS.map((channels) => native(DEFAULT_SUITE, channels)),
    ...SUITE_NAMES.slice(1).map((suite) => native(suite, 1)),
    { engine: 'portable', form, suite: DEFAULT_SUITE, channels: 1 },
  ];
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
  const contestants = CHANNEL_FORMS.flatMap(waysOf).map((way) => new Contestant(way));
  for (const engine of ENGINES) {
    await compare(
      engine,
      contestants.filter(({ way }) => way.engine === engine),
    );
  }
  const ciphers = new Map(
    SUITE_NAMES.map((suite) => [suite, Array.from({ length: RUNS }, () => cipherSpeed(suite))]),
  );
  return reportOf(contestants, ciphers);
}

async function compare(engine: Engine, contestants: readonly Contestant[]): Promise<void> {
  const config = { engine };
  await using cluster = await Cluster.start({ 'host-a': { config }, 'host-b': { config } });
  using tls = await BarePair.start('tls', MEMORY_BYTES, cluster.certs);
  using tcp = await BarePair.start('tcp', MEMORY_BYTES, cluster.certs);
  const spec = { memoryBytes: MEMORY_BYTES, fill: 1 };
  const guest = await Traveller.create(cluster, 'vm1', spec);
  // The first run of each warms what is warm in a daemon that has been up for a while.
  for (let run = -1; run < RUNS; run += 1) {
    for (const contestant of contestants) {
      await rest();
      const [tlsMs, tcpMs] = [await tls.run(), await tcp.run()];
      const { suite, form, channels } = contestant.way;
      warm(MEMORY_BYTES);
      const { rounds, totalMs } = await guest.move({ suite, form, channels });
      if (run < 0) continue;
      contestant.bareTls.push(gigabytesPerSecond(MEMORY_BYTES, tlsMs));
      contestant.bareTcp.push(gigabytesPerSecond(MEMORY_BYTES, tcpMs));
      contestant.pages.push(gigabytesPerSecond(MEMORY_BYTES, sumOfMs(rounds)));
      contestant.whole.push(gigabytesPerSecond(MEMORY_BYTES, totalMs));
    }
  }
}

const titleOf = ({ engine, form, suite, channels }: Way): string =>
  [
    `${form}, ${channels} ${channels === 1 ? 'channel' : 'channels'}`,
    ...(suite === DEFAULT_SUITE ? [] : [suite]),
    ...(engine === 'native' ? [] : [engine]),
  ].join(', ');

function reportOf(
  contestants: readonly Contestant[],
  ciphers: ReadonlyMap<SuiteName, readonly number[]>,
): Report {
  const bare = (of: (each: Contestant) => readonly number[]) => spread(contestants.flatMap(of));
  const bars: Bar[] = [
    ...[...ciphers].map(([suite, speeds]) => ({
      label: `node:crypto alone, ${SUITES[suite].cipher}`,
      value: spread(speeds),
      yardstick: true,
    })),
    { label: 'bare TCP socket', value: bare(({ bareTcp }) => bareTcp), yardstick: true },
    { label: 'bare TLS 1.3 socket', value: bare(({ bareTls }) => bareTls), yardstick: true },
    ...contestants.map((each) => ({ label: titleOf(each.way), value: spread(each.pages) })),
  ];
  const findings = contestants.map((each) => {
    const { suite, engine, form } = each.way;
    const isDefault = suite === DEFAULT_SUITE && engine === 'native';
    const goal = isDefault ? ` (${GOALS[form]})` : '';
    const ofTls = show(spread(pairwise(each.pages, each.bareTls)));
    const ofTcp = show(spread(pairwise(each.pages, each.bareTcp)));
    const whole = show(spread(pairwise(each.whole, each.bareTls)));
    return `${titleOf(each.way)}: pages ${ofTls} of bare TLS, ${ofTcp} of bare TCP${goal}; whole migration ${whole} of bare TLS`;
  });
  return {
    name: 'throughput',
    title: `A guest of ${MEMORY_BYTES / MiB} MiB, incompressible, idle`,
    unit: 'GB/s',
    bars,
    findings,
    runs: { contestants, ciphers: Object.fromEntries(ciphers) },
  };
}
