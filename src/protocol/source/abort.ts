/**
 * The way out of a migration, seen from the source: before it surrendered, anything that goes wrong
 * is an abort, and the guest runs on here.
 */
import type { Step } from '../machine.ts';
import type { Code } from '../codes.ts';
import { outcomeOf } from '../session.ts';
import { abortStatement } from '../statement.ts';
import type { Effect, State } from './state.ts';

/** Ends the migration with the VM running here; `tell` says the peer (it may not know yet). */
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
    statement: abortStatement(plan.migrationId, 'source', code),
  };
  return {
    state: { kind: 'Aborting', plan, outcome: outcomeOf(code), code, detail },
    effects: [
      // A VM that was handed over is never spoken of as one that was not.
      ...(tell === 'tell the peer' && plan.purpose === 'migrate' ? [farewell] : []),
      { kind: 'arm', deadline: 'work' },
      { kind: 'abandon', code, detail },
    ],
  };
}

/** The peer ended it, by name of a code; an unknown one is shown as `fallback`. */
export function refusedByPeer(state: State, code: Code, detail: string): Step<State, Effect> {
  return abort(state, code, detail, 'say nothing');
}
