/**
 * One run: a stormy time, in which anything may go wrong; then a quiet one, in which everything must
 * settle; then what must be true of the end, one more migration included.
 */
import { BUILD, type Build } from './build.ts';
import type { Choices } from './choices.ts';
import type { Daemon } from './daemon.ts';
import type { Machine } from './machine.ts';
import { otherThan } from './signature.ts';
import { World, type Observer } from './world.ts';

export interface Verdict {
  /** The first invariant that broke; undefined when all is well. */
  readonly broken: string | undefined;
  readonly steps: number;
}

/** How long the storm goes on when the operator has begun all he wanted, in ms. */
const STORM_MS = [0, 10_000, 200_000] as const;

/** All deadlines and back-offs after each other are shorter; virtual, in ms. */
const SETTLED_WITHIN_MS = 1_200_000;

const STEPS_MAX = 50_000;

const NOBODY: Observer = { stepped: () => undefined };

export function run(choices: Choices, build: Build = BUILD, observer: Observer = NOBODY): Verdict {
  const world = new World(build, choices, observer);
  try {
    storm(world);
    calm(world);
    settle(world);
    judge(world);
  } catch (thrown) {
    world.facts.break(`threw: ${String(thrown)}`);
  }
  return { broken: world.facts.broken, steps: world.steps };
}

const isOver = ({ facts, steps }: World): boolean =>
  facts.broken !== undefined || steps > STEPS_MAX;

function storm(world: World): void {
  while (!isOver(world) && !world.operator.isDone) world.step();
  const lastsMs = STORM_MS[world.choices.below(STORM_MS.length)] ?? 0;
  const untilMs = world.time.nowMs + lastsMs;
  while (!isOver(world) && world.time.nowMs < untilMs && world.step());
}

function calm(world: World): void {
  world.faults.end();
  world.network.mend();
  const off = Object.values(world.machines).find(({ isOff }) => isOff);
  if (off === undefined) return;
  const isFenced = world.choices.below(2) === 0;
  const isRepaired = world.choices.below(2) === 0;
  settle(world);
  if (isFenced) {
    world.operator.fence();
    settle(world);
  }
  if (isRepaired) world.repair(off);
}

function settle(world: World): void {
  const untilMs = world.time.nowMs + SETTLED_WITHIN_MS;
  while (!isOver(world) && !isSettled(world)) {
    if (!world.step() || world.time.nowMs > untilMs) {
      world.facts.break(`everything settles: ${unsettled(world)}`);
    }
  }
  if (world.steps > STEPS_MAX) world.facts.break('everything settles: it never comes to rest');
}

const isAlone = (world: World, { name }: Daemon): boolean => world.machines[otherThan(name)].isOff;

/** States in which the other host's word is waited for, as long as it takes. */
const WAITING: ReadonlySet<string> = new Set(['InDoubt', 'Uncertified', 'ServingAlone', 'Pulling']);

/** Whether a daemon waits for nobody, but for one who never comes back. */
function isQuiet(world: World, daemon: Daemon): boolean {
  if (!daemon.isListening || daemon.isBlank || daemon.isBusy) return false;
  if (daemon.outgoing.size + daemon.incoming.size > 0) return false;
  const states = [...daemon.handovers.values()].map(({ state }) => state);
  const mayWait = isAlone(world, daemon);
  if (states.length === 0) return !daemon.isClaimed;
  return mayWait && states.every((state) => WAITING.has(state));
}

function isSettled(world: World): boolean {
  const { machines, daemons, operator } = world;
  const here = Object.values(machines).filter(({ isOff }) => !isOff).length;
  if (daemons.length !== here || operator.unanswered.length > 0) return false;
  return daemons.every((daemon) => isQuiet(world, daemon));
}

const unsettled = ({ daemons, operator }: World): string =>
  [
    ...operator.unanswered.map((request) => `${request} unanswered`),
    ...daemons.flatMap(({ name, outgoing, incoming, handovers, isClaimed }) => [
      ...(isClaimed ? [`${name} holds the name`] : []),
      ...[...outgoing, ...incoming, ...handovers.values()].map(({ state }) => `${name} ${state}`),
    ]),
  ].join(', ');

const isClean = ({ guest, hasVtpm, disk }: Machine): boolean => {
  const { vm } = disk.seen;
  return guest === undefined && !hasVtpm && (vm === undefined || vm.state === 'gone');
};

function judge(world: World): void {
  const { facts, machines, daemons, operator } = world;
  if (isOver(world)) return;
  const all = Object.values(machines);
  const waiting = daemons.filter(({ handovers }) =>
    [...handovers.values()].some(({ state }) => state === 'InDoubt'),
  );
  if (facts.isLost || waiting.length > 0) return;
  const { running } = world;
  if (running === undefined) {
    facts.break('no loss: at the end it runs nowhere');
    return;
  }
  const others = all.filter((machine) => machine !== running && !machine.isOff);
  if (!others.every(isClean)) facts.break('at the end the other host is not clean');
  const goesOn = world.choices.below(3) === 0;
  if (others.length === 0 || !goesOn || isOver(world)) return;
  if (!operator.migrate()) facts.break('a further migration cannot begin');
  settle(world);
  if (world.running === running) facts.break('a further migration fails');
}
