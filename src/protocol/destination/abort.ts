/**
 * The ways out of a migration, seen from the destination. Before it is PREPARED it may abort alone
 * and destroys what it received. From then on it keeps everything: the source may have surrendered,
 * and then this copy is the only one.
 */
import type { Code } from '../codes.ts';
import type { Step } from '../machine.ts';
import { outcomeOf, type Outcome } from '../session.ts';
import { abortStatement } from '../statement.ts';
import type { Effect, State } from './state.ts';

/** Ends the migration with nothing left here. */
export function abort(
  state: State,
  code: Code,
  detail: string,
  tell: 'tell the peer' | 'say nothing' = 'tell the peer',
): Step<State, Effect> {
  const { plan } = state;
  const farewell: Effect = {
    kind: 'sendSigned',
    message: { type: 'ABORT', code, detail: detail.slice(0, 512) },
    statement: abortStatement('migrationId' in state ? state.migrationId : '', 'destination', code),
  };
  return {
    state: { kind: 'Aborting', plan, outcome: outcomeOf(code), code, detail },
    effects: [
      ...(tell === 'tell the peer' ? [farewell] : []),
      { kind: 'arm', deadline: 'work' },
      { kind: 'abandon', code, detail },
    ],
  };
}

const ended = (
  state: State,
  outcome: Outcome,
  code: Code | null,
  detail: string,
): Step<State, Effect> => ({
  state: { kind: 'Ended', plan: state.plan, outcome, code, detail },
  effects: [{ kind: 'disarm' }, { kind: 'end' }],
});

/** PREPARED or later, and the source's word is missing: keep everything. */
export const doubt = (state: State, cause: Code, detail: string): Step<State, Effect> =>
  ended(state, 'in-doubt', 'IN_DOUBT', `${cause} ${detail}`.trim());

/** The VM runs here and is ours; `detail` says what is missing of the source's farewell. */
export const completed = (state: State, detail: string): Step<State, Effect> =>
  ended(state, 'completed', null, detail);
