/** Which rules (state × event) of the handover's machines the runs came by. */
import { DESTINATION_HANDOVER } from '../../src/protocol/handover/destination.ts';
import { SOURCE_HANDOVER } from '../../src/protocol/handover/source.ts';

const TABLES: Readonly<Record<string, Readonly<Record<string, object>>>> = {
  'source handover': SOURCE_HANDOVER,
  'destination handover': DESTINATION_HANDOVER,
};

/**
 * Rules that no honest host leads to; the tests of the machines take them one by one.
 * - Who asks has left InDoubt or Uncertified before an answer comes, and what the other host says
 *   first on a link of its own is neither an answer nor UNKNOWN.
 * - GONE needs ACTIVATED, which one that is only prepared never said.
 * - A VM that runs with its pages at the source is never said to be given up, nor deleted, nor unknown;
 *   and who runs it says so only when it is asked.
 * - Two guests live only by an operator's statement that is not true.
 */
export const UNREACHABLE: readonly string[] = [
  'source handover: InDoubt × RUNNING',
  'source handover: InDoubt × ABORT',
  'source handover: InDoubt × UNKNOWN',
  'source handover: Serving × ABORT',
  'source handover: Serving × UNKNOWN',
  'source handover: ServingAlone × ABORT',
  'destination handover: AwaitingSurrender × DELETED',
  'destination handover: InDoubt × ABORT',
  'destination handover: InDoubt × DELETED',
  'destination handover: InDoubt × UNKNOWN',
  'destination handover: Pulling × ABORT',
  'destination handover: Pulling × DELETED',
  'destination handover: Uncertified × DELETED',
  'destination handover: Uncertified × ABORT',
  'destination handover: Uncertified × UNKNOWN',
  'destination handover: Contradicted × guestLives',
];

interface Rule {
  readonly machine: string;
  readonly state: string;
  readonly event: string;
}

const RULES: readonly Rule[] = Object.entries(TABLES).flatMap(([machine, table]) =>
  Object.entries(table).flatMap(([state, row]) =>
    Object.keys(row).map((event) => ({ machine, state, event })),
  ),
);

const textOf = ({ machine, state, event }: Rule): string => `${machine}: ${state} × ${event}`;

type Counts = Map<string, number>;

export class Coverage {
  /** By machine, state and event: one text a step would cost more than the step. */
  readonly #counts = new Map<string, Map<string, Counts>>();

  readonly stepped = (machine: string, state: string, event: string): void => {
    const states = within(this.#counts, machine, () => new Map<string, Counts>());
    const events = within(states, state, () => new Map<string, number>());
    events.set(event, (events.get(event) ?? 0) + 1);
  };

  /** Of all machines. */
  get states(): number {
    return [...this.#counts.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** Rules of the handover that no run came by. */
  get missed(): readonly string[] {
    return RULES.filter(({ machine, state, event }) => {
      return this.#counts.get(machine)?.get(state)?.has(event) !== true;
    }).map(textOf);
  }

  /** States of the handover that no run came by. */
  get statesMissed(): readonly string[] {
    return Object.entries(TABLES).flatMap(([machine, table]) =>
      Object.keys(table).filter((state) => this.#counts.get(machine)?.has(state) !== true),
    );
  }
}

function within<V>(map: Map<string, V>, key: string, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
