/**
 * The way out of a migration, seen from the destination: before it is PREPARED it may abort alone and
 * destroys what it received.
 */
import type { Code } from '../codes.ts';
import type { Step } from '../machine.ts';
import { outcomeOf } from '../session.ts';
import { abortStatement } from '../statement.ts';
import type { Effect, State } from './state.ts';

/**
 * Ends the migration with nothing left here. While PREPARED may be on disk nobody signs that it never
 * will be: a crash could find it.
 */
export function abort(
  state: State,
  code: Code,
  detail: string,
  tell: 'tell the peer' | 'say nothing' = state.kind === 'Preparing'
    ? 'say nothing'
    : 'tell the peer',
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
      // A VM that is active here is never spoken of as one that is not.
      ...(tell === 'tell the peer' && plan.purpose === 'migrate' ? [farewell] : []),
      { kind: 'arm', deadline: 'work' },
      { kind: 'abandon', code, detail },
    ],
  };
}
