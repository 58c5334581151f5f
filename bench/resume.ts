/**
 * What a broken connection costs: a guest is moved whole, and then again with every connection cut when
 * half of it has been sent. Compared are the bytes of all records that were sent, those of the broken
 * session included; and how long it took until the rounds went on. The connections pass a relay of the
 * test, which cuts them, so the speed of these migrations says nothing.
 */
import { GiB, MiB } from '../src/base/units.ts';
import type { MigrationEvent, MigrationResult } from '../src/migration/report.ts';
import { Wire } from '../test/attack/wire.ts';
import { IS_SHORT, rest } from './pace.ts';
import type { Report } from './report.ts';
import { pairwise, show, spread, type Spread } from './stats.ts';

const MEMORY_BYTES = IS_SHORT ? 256 * MiB : 2 * GiB;
const RUNS = IS_SHORT ? 1 : 2;
const CHANNELS = IS_SHORT ? [1] : [1, 4];
const RECONNECT_MS = 20_000;
/** Bytes sent in total, of those of one whole. */
const RATIO_MAX = 1.1;

interface Contestant {
  readonly channels: number;
  /** Bytes sent, run by run. */
  readonly whole: number[];
  readonly cut: number[];
  /** From the break until the rounds went on, in ms. */
  readonly outageMs: number[];
}

type Hear = (event: MigrationEvent) => void;

/** Makes an incompressible guest that writes nothing, moves it, and removes it again. */
async function move(wire: Wire, channels: number, hear: Hear): Promise<MigrationResult> {
  const { a, b } = wire.cluster;
  await a.call('vm.create', { name: 'vm1', memoryBytes: MEMORY_BYTES, fill: 1 });
  await rest();
  const result = await a.migrate('vm1', 'host-b', { channels }, hear);
  if (result.outcome !== 'completed') throw new Error(`${result.code}: ${result.detail}`);
  const { badPages } = await b.check('vm1');
  if (badPages !== 0) throw new Error(`${badPages} bad pages`);
  await b.call('vm.delete', { name: 'vm1' });
  return result;
}

/** The same, with every connection cut when half of it has been sent. */
async function moveCut(
  wire: Wire,
  channels: number,
): Promise<{ readonly bytesSent: number; readonly outageMs: number }> {
  let isCut = false;
  let [brokeAt, wentOnAt] = [0, 0];
  const { bytesSent, resumes } = await move(wire, channels, (event) => {
    if (event.event === 'progress' && !isCut && event.sentBytes >= event.remainingBytes) {
      isCut = true;
      for (const relay of wire.relays) relay.cut();
    }
    if (event.event !== 'phase') return;
    if (event.phase === 'reconnecting') brokeAt = performance.now();
    if (event.phase === 'pre-copy' && isCut) wentOnAt = performance.now();
  });
  if (resumes !== 1) throw new Error(`it went on ${resumes} times`);
  return { bytesSent, outageMs: wentOnAt - brokeAt };
}

async function compete(channels: number): Promise<Contestant> {
  const limits = { reconnectMs: RECONNECT_MS };
  await using wire = await Wire.start({ channels, config: { limits } });
  const contestant: Contestant = { channels, whole: [], cut: [], outageMs: [] };
  for (let run = 0; run < RUNS; run += 1) {
    const { bytesSent } = await move(wire, channels, () => undefined);
    contestant.whole.push(bytesSent);
    const cut = await moveCut(wire, channels);
    contestant.cut.push(cut.bytesSent);
    contestant.outageMs.push(cut.outageMs);
  }
  return contestant;
}

const inMiB = (bytes: readonly number[]): Spread => spread(bytes.map((each) => each / MiB));

const titleOf = ({ channels }: Contestant): string =>
  `${channels} ${channels === 1 ? 'channel' : 'channels'}`;

export async function resume(): Promise<Report> {
  const contestants: Contestant[] = [];
  for (const channels of CHANNELS) contestants.push(await compete(channels));
  return {
    name: 'resume',
    title: `A guest of ${MEMORY_BYTES / MiB} MiB, incompressible, idle, cut at half`,
    unit: 'MiB sent',
    bars: contestants.flatMap((each) => [
      { label: `${titleOf(each)}, whole`, value: inMiB(each.whole), yardstick: true },
      { label: `${titleOf(each)}, cut once`, value: inMiB(each.cut) },
    ]),
    findings: contestants.map((each) => {
      const ratio = show(spread(pairwise(each.cut, each.whole)), 4);
      const outage = show(spread(each.outageMs), 0);
      return `${titleOf(each)}: sent ${ratio} of one whole (must stay below ${RATIO_MAX}); the rounds went on after ${outage} ms`;
    }),
    runs: contestants,
  };
}
