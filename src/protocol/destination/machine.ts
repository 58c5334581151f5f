/**
 * The destination's machine: the phases' rules composed, and one answer for everything else. Pure,
 * as the source's.
 */
import { MigError } from '../error.ts';
import { answer, machine, type Answers, type Step } from '../machine.ts';
import { MESSAGE_TYPES } from '../messages.ts';
import { abort } from './abort.ts';
import { attestation } from './attestation.ts';
import { holding } from './holding.ts';
import { pulling } from './pulling.ts';
import { session } from './session.ts';
import type { DestinationRules, Effect, Event, Plan, State } from './state.ts';
import { transfer } from './transfer.ts';

const endings: DestinationRules<'Aborting' | 'Ended' | 'HandedOver'> = {
  Aborting: {
    abandoned: {
      to: ['Ended'],
      run: ({ plan, outcome, code, detail }) => ({
        state: { kind: 'Ended', plan, outcome, code, detail },
        effects: [{ kind: 'disarm' }, { kind: 'end' }],
      }),
    },
    deadlinePassed: {
      to: ['Ended'],
      run: ({ plan, outcome, code, detail }) => ({
        state: { kind: 'Ended', plan, outcome, code, detail },
        effects: [{ kind: 'end' }],
      }),
    },
  },
  Ended: {},
  HandedOver: {},
};

export const DESTINATION_RULES: DestinationRules<State['kind']> = {
  ...session,
  ...attestation,
  ...transfer,
  ...holding,
  ...pulling,
  ...endings,
};

/** Whether this may be the only copy of the VM, so that nothing of it is destroyed. */
export const mayHoldTheOnlyCopy = (state: State): boolean => state.kind === 'HandedOver';

const ignored = (state: State): Step<State, Effect> => ({ state, effects: [] });

const isMessage = (kind: string): boolean => (MESSAGE_TYPES as string[]).includes(kind);

const ANSWERS: Answers<State, Event, Effect> = {
  failed: (state, { code, detail }) => abort(state, code, detail),
  peerClosed: (state, { code, detail }) => abort(state, code, detail),
  deadlinePassed: (state) => abort(state, 'PEER_SILENT', state.kind),
  cancelRequested: (state, { code }) => abort(state, code, ''),
  ABORT: (state, { message: { code: named, detail } }) => {
    const { code } = MigError.named(named, detail, 'PEER_CLOSED');
    return abort(state, code, detail, 'say nothing');
  },
};

const outOfOrder = (kind: string, expected: readonly string[]): string =>
  `${kind}, expected ${expected.filter(isMessage).join(' or ')}`;

/** What happens to an event that the state has no rule for. */
function otherwise(state: State, event: Event, expected: readonly string[]): Step<State, Effect> {
  if (['PassedOn', 'HandedOver', 'Joined', 'Aborting', 'Ended'].includes(state.kind))
    return ignored(state);
  return (
    answer(ANSWERS, state, event) ??
    (isMessage(event.kind)
      ? abort(state, 'MESSAGE_UNEXPECTED', outOfOrder(event.kind, expected))
      : ignored(state))
  );
}

export const stepDestination = machine<State, Event, Effect>(DESTINATION_RULES, otherwise);

/** Where the destination's machine begins: a host has connected. */
export const startDestination = (plan: Plan): Step<State, Effect> => ({
  state: { kind: 'AwaitingHello', plan },
  effects: [{ kind: 'arm', deadline: 'reply' }],
});
