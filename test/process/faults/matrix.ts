/**
 * Every step of a migration × what may fail at it. A cell stops one daemon at the step, lets the fault
 * strike while both stand still, lets them go on, starts again what was killed, and looks at the end:
 * without an operator's help the VM runs at one host, whole, and a migration right after works.
 */
import { MiB } from '../../../src/base/units.ts';
import type { MigrateOptions } from '../../../src/protocol/options.ts';
import { answerOf } from '../refusal.ts';
import type { When } from './conductor.ts';
import { otherOf, type Field, type HostName } from './field.ts';

/** In the order in which a migration without faults comes to them. */
export const STEPS = [
  'source.connect',
  'source.send:HELLO',
  'destination.send:HELLO_OK',
  'source.send:ATT_REQUEST',
  'destination.send:ATT_EVIDENCE',
  'source.send:SVR_ATT_OK',
  'destination.send:CLI_ATT_OK',
  'source.send:OFFER',
  'destination.admit',
  'destination.send:ACCEPT',
  'source.joinChannels',
  'source.sendRound',
  'source.send:ROUND_END',
  'destination.awaitRound',
  'destination.send:ROUND_OK',
  'source.collectDirty',
  'source.pauseGuest',
  'source.sendFinal',
  'source.sendSigned:FINAL',
  'destination.awaitFinal',
  'destination.prepare',
  'destination-handover.say:DONE',
  'source.surrender',
  'source-handover.say:SURRENDER',
  'destination-handover.recordActive',
  'destination-handover.startGuest',
  'destination-handover.say:ACTIVATED',
  'source-handover.deleteGuest',
  'source-handover.recordGone',
  'source-handover.say:DELETED',
  'destination-handover.fileCertificate',
  'destination-handover.settle',
] as const;

type Step = (typeof STEPS)[number];

export const FAULTS = {
  'source killed': ['source'],
  'destination killed': ['destination'],
  'both killed': ['source', 'destination'],
  'network cut': [],
} as const satisfies Readonly<Record<string, readonly Role[]>>;

type Role = 'source' | 'destination';
type Hosts = Readonly<Record<Role, HostName>>;
export type Fault = keyof typeof FAULTS;
export type Outcome = Role;

/** What happens before the fault that a cell is about. */
export interface Course {
  readonly title: string;
  readonly steps: readonly string[];
  /** How it is migrated, when not as usual. */
  readonly options?: Partial<MigrateOptions>;
  readonly accident?: {
    readonly at: string;
    /** By how many the epoch has risen in the end. */
    readonly epochs: number;
    readonly strike: (field: Field, hosts: Hosts) => Promise<void>;
    readonly mend: (field: Field, hosts: Hosts) => Promise<void>;
  };
}

export const COURSES: readonly Course[] = [
  { title: 'nothing else fails', steps: STEPS },
  {
    title: 'it runs there before its pages come',
    options: { mode: 'post-copy' },
    steps: [
      'destination-handover.startGuest',
      'destination-handover.say:RUNNING',
      'source-handover.serve',
      'destination-handover.pull',
      'destination-handover.say:ACTIVATED',
      'source-handover.deleteGuest',
    ],
  },
  {
    title: 'the prepared guest has died: the source takes its VM back',
    steps: [
      'destination-handover.discard',
      'destination-handover.say:ABORT',
      'source-handover.reclaim',
    ],
    accident: {
      at: 'before destination-handover.recordActive',
      // One was promised to the destination.
      epochs: 2,
      strike: (field, { destination }) => field.killGuest(destination),
      mend: () => Promise.resolve(),
    },
  },
  {
    title: 'the source was killed before it surrendered: the destination gives up what it prepared',
    steps: ['destination-handover.discard'],
    accident: {
      at: 'before source.surrender',
      epochs: 0,
      strike: (field, { source }) => field.kill(source),
      mend: (field, { source }) => field.startHost(source),
    },
  },
];

/** A step of a course: one row of the table. */
export interface Row {
  readonly course: Course;
  readonly when: When | 'during';
  readonly step: string;
}

export interface Cell extends Row {
  readonly fault: Fault;
}

const whensOf = (step: string): readonly Row['when'][] =>
  UNDER_WAY.has(step) ? ['before', 'during', 'after'] : ['before', 'after'];

/** Steps in which pages are on their way. */
const UNDER_WAY: ReadonlySet<string> = new Set(['source.sendRound', 'destination-handover.pull']);

export const ROWS: readonly Row[] = COURSES.flatMap((course) =>
  course.steps.flatMap((step) => whensOf(step).map((when) => ({ course, when, step }))),
);

export const cellsOf = ({ course, when, step }: Row): Cell[] =>
  (Object.keys(FAULTS) as Fault[]).map((fault) => ({ course, when, step, fault }));

/** Rows of the course without an accident, from one step up to, and not including, another. */
export function rowsBetween(first: Step, end?: Step): Row[] {
  const last = end === undefined ? STEPS.length : STEPS.indexOf(end);
  const steps = new Set<string>(STEPS.slice(STEPS.indexOf(first), last));
  return rowsOf(COURSES[0]).filter(({ step }) => steps.has(step));
}

/** The rows of one course. */
export const rowsOf = (course: Course | undefined): Row[] =>
  ROWS.filter((row) => row.course === course);

/** So many cells of each row, in turns: `npm run matrix` plays all. */
export const someOfEach = (rows: readonly Row[], count: number): Cell[] =>
  rows.flatMap((row, i) => {
    const cells = cellsOf(row);
    const turn = (i + Math.floor(i / cells.length)) % cells.length;
    return [...cells, ...cells].slice(turn, turn + count);
  });

export const titleOf = ({ course, when, step, fault }: Cell): string =>
  `${fault} ${when} ${step}${course === COURSES[0] ? '' : `, where ${course.title}`}`;

const turnOf = (when: Row['when'], step: string): number =>
  STEPS.findIndex((each) => each === step) * 2 + (when === 'after' ? 1 : 0);

/**
 * Where it must run: at the destination exactly when the source's surrender comes to be on disk, which
 * it does as soon as the receipt is on its way to a source that lives.
 */
export function expected({ course, when, step, fault }: Cell): Outcome {
  if (course.accident !== undefined) return 'source';
  if (course.options?.mode === 'post-copy') return 'destination';
  // There is nothing to cut yet.
  if (fault === 'network cut' && step === 'source.connect' && when === 'before') {
    return 'destination';
  }
  const isSourceKilled = FAULTS[fault].some((role) => role === 'source');
  const turn = isSourceKilled
    ? turnOf('after', 'source.surrender')
    : turnOf('after', 'destination-handover.say:DONE');
  return turnOf(when, step) >= turn ? 'destination' : 'source';
}

export interface Played {
  readonly outcome: Outcome;
  readonly wrongs: readonly string[];
}

/** So that a fault strikes in the middle of a round. */
const SLOW = { maxBandwidthBps: 4 * MiB };
const UNDER_WAY_BYTES = MiB;

/** Plays one cell; the VM may be at either host, and is at the other one afterwards. */
export async function play(field: Field, cell: Cell): Promise<Played> {
  const { course, when, step, fault } = cell;
  const { at: source, epoch } = field;
  const hosts = { source, destination: otherOf(source) };
  const { accident } = course;
  const { conductor } = field;
  const target = `${when === 'during' ? 'before' : when} ${step}`;
  const begun = conductor.stopAt(accident?.at ?? target);
  const options = { ...course.options, ...(when === 'during' ? SLOW : {}) };
  const answer = answerOf(field.migrate(source, options));
  await begun;
  if (accident !== undefined) {
    await accident.strike(field, hosts);
    const reached = conductor.stopAt(target);
    await accident.mend(field, hosts);
    await reached;
  }
  if (when === 'during') {
    conductor.go();
    await field.passed(UNDER_WAY_BYTES);
  }
  const killed = FAULTS[fault].map((role) => hosts[role]);
  await Promise.all(killed.map((host) => field.kill(host)));
  if (killed.length === 0) await field.cut();
  conductor.go();
  await Promise.all(killed.map((host) => field.startHost(host)));

  const at = await field.settled();
  const outcome = at === source ? 'source' : 'destination';
  const wrongs = await field.wrongs(at);
  const { code } = await answer;
  if (!tells(code, outcome))
    wrongs.push(`it runs at the ${outcome}, its operator was told ${code}`);
  const epochs = outcome === 'destination' ? 1 : (accident?.epochs ?? 0);
  if (field.epoch !== epoch + epochs) wrongs.push(`epoch ${epoch} became ${field.epoch}`);
  wrongs.push(...(await field.moves()));
  return { outcome, wrongs };
}

/** Whether what the operator was told, if he could be told, is true. */
const tells = (code: string | null | undefined, outcome: Outcome): boolean =>
  code === undefined || code === 'IN_DOUBT' || (code === null) === (outcome === 'destination');
