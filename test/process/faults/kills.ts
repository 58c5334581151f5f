/**
 * `npm run kills -- --count N --seed N`: migrations there and back in which daemons are killed at steps
 * drawn by chance or some instants after one, over any data plane, also while they recover from the
 * kill before. After each
 * migration the VM is at one host, whole, and all that was acknowledged is there. The same seed draws the
 * same kills.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { answerOf } from '../refusal.ts';
import { planeTitle, PLANES, type Plane } from '../plane.ts';
import { Field, HOSTS, type HostName } from './field.ts';

/** Kills of one migration. */
const KILLS_MAX = 3;
/** Steps of the recovery after which another kill may come. */
const RECOVERY_STEPS = 16;
/** A kill comes at most so long after a step, in the midst of whatever goes on then. */
const AFTER_MS_MAX = 40;

/** mulberry32 (Ettinger 2017): integers from 0 up to, not including, `end`. */
export function chance(seed: number): (end: number) => number {
  let state = seed >>> 0;
  return (end) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % end;
  };
}

export interface Struck {
  readonly plane: Plane;
  readonly mode: string;
  readonly kills: readonly string[];
  readonly runsAt: 'source' | 'destination';
  readonly wrongs: readonly string[];
}

/** A step of the one may not come in the other: then the migration goes through. */
const MODES_STRUCK = ['pre-copy', 'post-copy'] as const;

const VICTIMS: readonly (readonly HostName[])[] = [['host-a'], ['host-b'], HOSTS];

/** The steps of a migration without faults: each is one that a kill can wait for. */
export async function stepsOf(field: Field): Promise<readonly string[]> {
  const steps = new Set<string>();
  field.conductor.hear = ({ at }) => steps.add(at);
  const wrongs: string[] = [];
  for (const mode of MODES_STRUCK) {
    field.mode = mode;
    wrongs.push(...(await field.moves()));
  }
  field.conductor.hear = () => undefined;
  if (wrongs.length > 0) throw new Error(wrongs.join('\n'));
  return [...steps].toSorted();
}

/** One migration, and what is killed in it. */
export async function strike(
  field: Field,
  steps: readonly string[],
  draw: (end: number) => number,
): Promise<Struck> {
  const { conductor, at: source } = field;
  const kills: string[] = [];
  const kill = async (at: string): Promise<void> => {
    const victims = VICTIMS[draw(VICTIMS.length)] ?? HOSTS;
    const afterMs = draw(2) * draw(AFTER_MS_MAX);
    kills.push(`${victims.join(' and ')} ${afterMs} ms after "${at}"`);
    if (afterMs > 0) {
      conductor.go();
      await sleep(afterMs);
    }
    await Promise.all(victims.map((host) => field.kill(host)));
    conductor.go();
    await Promise.all(victims.map((host) => field.startHost(host)));
  };

  const recovering = async (): Promise<void> => {
    while (kills.length < KILLS_MAX) {
      let left = draw(RECOVERY_STEPS);
      const again = conductor.stopAt('a step of the recovery', () => left-- === 0);
      // A daemon that is killed takes the questions of `settled` with it.
      const settled = field.settled().then(
        () => undefined,
        () => undefined,
      );
      const found = await Promise.race([again, settled]);
      if (found === undefined) break;
      await kill(found.at);
    }
  };

  field.plane = PLANES[draw(PLANES.length)] ?? field.plane;
  field.mode = MODES_STRUCK[draw(MODES_STRUCK.length)] ?? field.mode;
  const step = steps[draw(steps.length)] ?? '';
  const reached = conductor.stopAt(step);
  const answered = answerOf(field.migrate(source));
  const isReached = await Promise.race([reached.then(() => true), answered.then(() => false)]);
  if (isReached) {
    await kill(step);
    await recovering();
  }
  conductor.go();
  const at = await field.settled();
  return {
    plane: field.plane,
    mode: field.mode,
    kills,
    runsAt: at === source ? 'source' : 'destination',
    wrongs: await field.wrongs(at),
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      count: { type: 'string', default: '200' },
      seed: { type: 'string', default: '1' },
    },
  });
  const count = Number(values.count);
  const draw = chance(Number(values.seed));
  await using field = await Field.start();
  const steps = await stepsOf(field);
  const runs = { source: 0, destination: 0 };
  let killed = 0;
  while (killed < count) {
    const { plane, mode, kills, runsAt, wrongs } = await strike(field, steps, draw);
    killed += kills.length;
    runs[runsAt] += 1;
    console.log(
      `${killed}/${count} runs at the ${runsAt} by ${mode} over ${planeTitle(plane)}: ${kills.join(', ')}`,
    );
    if (wrongs.length > 0) throw new Error(wrongs.join('\n'));
  }
  const open = await field.leftOpen();
  if (open.length > 0) throw new Error(open.join('\n'));
  console.log(
    `${killed} kills in ${runs.source + runs.destination} migrations, seed ${values.seed}: ` +
      `${runs.source} run at the source, ${runs.destination} at the destination, none is lost`,
  );
}

if (import.meta.main) await main();
