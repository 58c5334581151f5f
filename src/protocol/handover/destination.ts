/**
 * The handover at the destination, from the moment PREPARED is on disk. This copy may be the only
 * one: it is destroyed on the source's signed word that it did not surrender and on nothing else, and
 * it runs on the source's token and on nothing else but an operator's statement; never on a timer.
 *
 *     AwaitingSurrender ⇄ InDoubt
 *       ├─ SURRENDER → Activating → Starting → AwaitingDeletion ⇄ Uncertified → Filing → Settled (active)
 *       │  and where pages are still to come: Starting → Pulling → AwaitingDeletion
 *       └─ the source's signed ABORT, or the state proved lost → Discarding → Settled (aborted)
 */
import type { Code } from '../codes.ts';
import { MigError } from '../error.ts';
import { machine, type Row, type Rules, type Step } from '../machine.ts';
import type { Deletion, FaultCounts } from '../messages.ts';
import { abortStatement, deletionStatement, tokenStatement } from '../statement.ts';
import {
  sayAborted,
  sayActivated,
  sayReceipt,
  sayRunning,
  type Cause,
  type Fencing,
  type Matter,
  type Settled,
  type SharedEffect,
  type SharedEvent,
} from './matter.ts';

/** By what right the VM runs here. */
export type Right =
  | { readonly kind: 'token'; readonly token: Uint8Array }
  | { readonly kind: 'fencing'; readonly fencing: Fencing };

export type DestinationState =
  | { readonly kind: 'AwaitingSurrender'; readonly matter: Matter }
  | { readonly kind: 'InDoubt'; readonly matter: Matter; readonly cause: Cause }
  | { readonly kind: 'Activating'; readonly matter: Matter; readonly right: Right }
  | { readonly kind: 'Starting'; readonly matter: Matter }
  /** The VM runs here, and pages of it are still at the source. */
  | { readonly kind: 'Pulling'; readonly matter: Matter }
  | {
      readonly kind: 'AwaitingDeletion';
      readonly matter: Matter;
      readonly faults?: FaultCounts | undefined;
    }
  /** The VM runs here; only the certificate of its deletion at the source is missing. */
  | { readonly kind: 'Uncertified'; readonly matter: Matter; readonly cause: Cause }
  | {
      readonly kind: 'Filing';
      readonly matter: Matter;
      readonly deletion: Deletion;
      readonly signature: Uint8Array;
    }
  /** The source says that it has taken the VM back, by an operator's statement. */
  | { readonly kind: 'Contradicted'; readonly matter: Matter }
  | { readonly kind: 'Discarding'; readonly matter: Matter; readonly code: Code }
  | Settled;

/** What comes of the work. */
export type DestinationDone =
  /** ACTIVE is durable: the commit point. */
  | { readonly kind: 'activeRecorded' }
  | { readonly kind: 'guestStarted' }
  /** The last page is there. */
  | { readonly kind: 'whole'; readonly faults: FaultCounts }
  | { readonly kind: 'filed' }
  | { readonly kind: 'guestLives' }
  | { readonly kind: 'discarded' };

/** What is done to the guest and the records. */
export type DestinationWork =
  /** Write ACTIVE, sync; then `activeRecorded`; `lost` instead where the guest does not live. */
  | { readonly kind: 'recordActive'; readonly right: Right }
  /** Let it run; where pages are still to come, whoever touches one waits for it. */
  | { readonly kind: 'startGuest' }
  /** Take the pages that are missing, from whoever proves to be the source; then `whole`, or `lost`. */
  | { readonly kind: 'pull' }
  | {
      readonly kind: 'fileCertificate';
      readonly deletion: Deletion;
      readonly statement: Uint8Array;
      readonly signature: Uint8Array;
    }
  /** Is our guest gone? `lost` or `guestLives`. */
  | { readonly kind: 'inspectGuest' }
  /** Destroy what was received, write the end, sync; then `discarded`. */
  | { readonly kind: 'discard'; readonly code: Code };

type DestinationEvent = SharedEvent | DestinationDone;
type DestinationEffect = SharedEffect | DestinationWork;
type Next = Step<DestinationState, DestinationEffect>;
type DestinationRules = Rules<
  DestinationState,
  DestinationEvent,
  DestinationEffect,
  DestinationState['kind']
>;
type Of = { readonly matter: Matter };

const ask = (matter: Matter): Next => ({
  state: { kind: 'AwaitingSurrender', matter },
  effects: [sayReceipt(matter), { kind: 'arm' }],
});

const doubt = ({ matter }: Of, cause: Cause): Next => ({
  state: { kind: 'InDoubt', matter, cause },
  effects: [{ kind: 'disarm' }, { kind: 'part' }, { kind: 'retryLater' }],
});

const activate = (matter: Matter, right: Right): Next => ({
  state: { kind: 'Activating', matter, right },
  effects: [{ kind: 'disarm' }, { kind: 'recordActive', right }],
});

const discard = (matter: Matter, code: Code): Next => ({
  state: { kind: 'Discarding', matter, code },
  effects: [{ kind: 'disarm' }, { kind: 'discard', code }],
});

const announce = ({ matter }: Of, faults?: FaultCounts): Next => ({
  state: { kind: 'AwaitingDeletion', matter, faults },
  effects: [sayActivated(matter, faults), { kind: 'arm' }],
});

const pulling = ({ matter }: Of): Next => ({
  state: { kind: 'Pulling', matter },
  effects: [sayRunning(matter)],
});

/** Asked for again later, as long as it takes; the VM runs meanwhile. */
const uncertified = ({ matter }: Of, { code, detail }: Cause): Next => ({
  state: { kind: 'Uncertified', matter, cause: { code, detail } },
  effects: [{ kind: 'disarm' }, { kind: 'part' }, { kind: 'retryLater' }],
});

const unknown = ({ matter }: Of): Cause => ({
  code: 'MIGRATION_UNKNOWN',
  detail: matter.subject.from,
});

const settled = ({ matter }: Of, code: Code | null): Next => ({
  state: { kind: 'Settled', matter, outcome: 'active', code, detail: '' },
  effects: [{ kind: 'disarm' }, { kind: 'settle' }],
});

const twoLives = (state: Of): Next => settled(state, 'TWO_LIVES');

/** What the source may say to one that is prepared. */
const wordsToPrepared = {
  SURRENDER: {
    to: ['Activating', 'InDoubt'],
    run: (state, { message: { signature } }) => {
      const { matter } = state;
      const statement = tokenStatement(matter.subject, matter.transcriptDigest);
      return matter.signedByPeer(statement, signature)
        ? activate(matter, { kind: 'token', token: signature })
        : doubt(state, { code: 'SIGNATURE_INVALID', detail: 'token' });
    },
  },
  ABORT: {
    to: ['Discarding', 'InDoubt'],
    run: (state, { message }) => {
      const { matter } = state;
      const statement = abortStatement(matter.subject.migrationId, 'source', message.code);
      const { code } = MigError.named(message.code, message.detail, 'PEER_CLOSED');
      return matter.signedByPeer(statement, message.signature)
        ? discard(matter, code)
        : doubt(state, { code: 'SIGNATURE_INVALID', detail: 'abort' });
    },
  },
  // GONE needed our ACTIVATED: whoever says so now contradicts his own record or ours.
  DELETED: {
    to: ['InDoubt'],
    run: (state) => doubt(state, { code: 'MESSAGE_UNEXPECTED', detail: 'DELETED to PREPARED' }),
  },
  UNKNOWN: {
    to: ['InDoubt'],
    run: (state) => doubt(state, unknown(state)),
  },
  lost: { to: ['Discarding'], run: ({ matter }) => discard(matter, 'STATE_LOST') },
} satisfies Row<DestinationState, DestinationEvent, DestinationEffect, Of>;

/** What the source may say to one that is active. */
const wordsToActive = {
  SURRENDER: { to: ['AwaitingDeletion'], run: (state) => announce(state) },
  DELETED: {
    to: ['Filing', 'Uncertified'],
    run: (state, { message: { deletion, signature } }) => {
      const { matter } = state;
      const statement = deletionStatement(matter.subject, deletion);
      if (!matter.signedByPeer(statement, signature)) {
        return uncertified(state, { code: 'SIGNATURE_INVALID', detail: 'certificate of deletion' });
      }
      return {
        state: { kind: 'Filing', matter, deletion, signature },
        effects: [{ kind: 'disarm' }, { kind: 'fileCertificate', deletion, statement, signature }],
      };
    },
  },
  // Only an operator's statement can have led to this. Of two records the one with the lower epoch
  // gives way, and only when its guest is gone: ours, if the source took the VM back.
  ABORT: {
    to: ['Contradicted', 'Settled', 'Uncertified'],
    run: (state, { message: { code, signature } }) => {
      const { matter } = state;
      const statement = abortStatement(matter.subject.migrationId, 'source', code);
      if (!matter.signedByPeer(statement, signature)) {
        return uncertified(state, { code: 'SIGNATURE_INVALID', detail: 'abort' });
      }
      if (code !== 'FENCED') return twoLives(state);
      return {
        state: { kind: 'Contradicted', matter },
        effects: [{ kind: 'disarm' }, { kind: 'inspectGuest' }],
      };
    },
  },
  UNKNOWN: { to: ['Uncertified'], run: (state) => uncertified(state, unknown(state)) },
} satisfies Row<DestinationState, DestinationEvent, DestinationEffect, Of>;

export const DESTINATION_HANDOVER: DestinationRules = {
  AwaitingSurrender: {
    ...wordsToPrepared,
    parted: { to: ['InDoubt'], run: (state, { code, detail }) => doubt(state, { code, detail }) },
    failed: { to: ['InDoubt'], run: (state, { code, detail }) => doubt(state, { code, detail }) },
    deadlinePassed: {
      to: ['InDoubt'],
      run: (state) => doubt(state, { code: 'PEER_SILENT', detail: state.kind }),
    },
  },

  InDoubt: {
    ...wordsToPrepared,
    due: { to: ['InDoubt'], run: (state) => ({ state, effects: [{ kind: 'reach' }] }) },
    reached: { to: ['AwaitingSurrender'], run: ({ matter }) => ask(matter) },
    parted: {
      to: ['InDoubt'],
      run: ({ kind, matter }, { code, detail }) => ({
        state: { kind, matter, cause: { code, detail } },
        effects: [{ kind: 'retryLater' }],
      }),
    },
    fenced: {
      to: ['Activating', 'Discarding'],
      // Without what is at the fenced host it can never be whole.
      run: ({ matter }, { fencing }) =>
        matter.leavesPages
          ? discard(matter, 'STATE_LOST')
          : activate(matter, { kind: 'fencing', fencing }),
    },
  },

  Activating: {
    activeRecorded: {
      to: ['Starting'],
      run: ({ matter }) => ({
        state: { kind: 'Starting', matter },
        effects: [{ kind: 'startGuest' }],
      }),
    },
    // The right stays ours; a disk that is full now may have room later.
    failed: { to: ['Activating'], run: (state) => ({ state, effects: [{ kind: 'retryLater' }] }) },
    due: {
      to: ['Activating'],
      run: (state) => ({ state, effects: [{ kind: 'recordActive', right: state.right }] }),
    },
    lost: { to: ['Discarding'], run: ({ matter }) => discard(matter, 'STATE_LOST') },
  },

  Starting: {
    guestStarted: {
      to: ['Pulling', 'AwaitingDeletion'],
      run: (state) => {
        if (!state.matter.leavesPages) return announce(state);
        const { state: next, effects } = pulling(state);
        return { state: next, effects: [...effects, { kind: 'pull' }] };
      },
    },
    failed: { to: ['Starting'], run: (state) => ({ state, effects: [{ kind: 'retryLater' }] }) },
    due: { to: ['Starting'], run: (state) => ({ state, effects: [{ kind: 'startGuest' }] }) },
    // It was ours already: a VM whose host failed it, as any.
    lost: { to: ['AwaitingDeletion'], run: (state) => announce(state) },
  },

  // Who has the pages comes with them, and with a link: it needs what is said here.
  Pulling: {
    SURRENDER: { to: ['Pulling'], run: pulling },
    whole: {
      to: ['AwaitingDeletion'],
      run: (state, { faults }) => announce(state, faults),
    },
    // It was ours already, and asks for no more pages.
    lost: { to: ['AwaitingDeletion'], run: (state) => announce(state) },
    failed: { to: ['Pulling'], run: (state) => ({ state, effects: [{ kind: 'retryLater' }] }) },
    due: { to: ['Pulling'], run: (state) => ({ state, effects: [{ kind: 'pull' }] }) },
    ABORT: wordsToActive.ABORT,
    // GONE needed our ACTIVATED.
    DELETED: {
      to: ['Pulling'],
      run: (state) => ({ state, effects: [{ kind: 'part' }] }),
    },
  },

  AwaitingDeletion: {
    ...wordsToActive,
    // Said again with what there was to say.
    SURRENDER: { to: ['AwaitingDeletion'], run: (state) => announce(state, state.faults) },
    parted: { to: ['Uncertified'], run: uncertified },
    failed: { to: ['Uncertified'], run: uncertified },
    deadlinePassed: {
      to: ['Uncertified'],
      run: (state) => uncertified(state, { code: 'PEER_SILENT', detail: state.kind }),
    },
  },

  Uncertified: {
    ...wordsToActive,
    due: { to: ['Uncertified'], run: (state) => ({ state, effects: [{ kind: 'reach' }] }) },
    reached: { to: ['AwaitingDeletion'], run: (state) => announce(state) },
    parted: {
      to: ['Uncertified'],
      run: ({ kind, matter }, { code, detail }) => ({
        state: { kind, matter, cause: { code, detail } },
        effects: [{ kind: 'retryLater' }],
      }),
    },
  },

  Filing: {
    filed: { to: ['Settled'], run: (state) => settled(state, null) },
    failed: { to: ['Filing'], run: (state) => ({ state, effects: [{ kind: 'retryLater' }] }) },
    due: {
      to: ['Filing'],
      run: (state) => ({
        state,
        effects: [
          {
            kind: 'fileCertificate',
            deletion: state.deletion,
            statement: deletionStatement(state.matter.subject, state.deletion),
            signature: state.signature,
          },
        ],
      }),
    },
  },

  Contradicted: {
    lost: { to: ['Discarding'], run: ({ matter }) => discard(matter, 'FENCED') },
    guestLives: { to: ['Settled'], run: twoLives },
    failed: { to: ['Uncertified'], run: uncertified },
  },

  Discarding: {
    discarded: {
      to: ['Settled'],
      run: ({ matter, code }) => ({
        state: { kind: 'Settled', matter, outcome: 'aborted', code, detail: '' },
        effects: [sayAborted(matter.subject.migrationId, 'destination', code), { kind: 'settle' }],
      }),
    },
    failed: { to: ['Discarding'], run: (state) => ({ state, effects: [{ kind: 'retryLater' }] }) },
    due: {
      to: ['Discarding'],
      run: (state) => ({ state, effects: [{ kind: 'discard', code: state.code }] }),
    },
  },

  Settled: {},
};

/** What has no rule changes nothing: a word that comes twice, a link that breaks when none is needed. */
export const stepDestinationHandover = machine<
  DestinationState,
  DestinationEvent,
  DestinationEffect
>(DESTINATION_HANDOVER, (state) => ({ state, effects: [] }));

/**
 * Where it begins: on the session's link, or (after a crash) without one: prepared, active, or active
 * with pages still to come.
 */
export function beginDestinationHandover(
  matter: Matter,
  from: 'linked' | 'alone' | 'active' | 'pulling',
): Next {
  if (from === 'linked') return ask(matter);
  const unasked = { code: 'PEER_CLOSED', detail: 'not asked yet' } as const;
  if (from === 'pulling') {
    return { state: { kind: 'Pulling', matter }, effects: [{ kind: 'pull' }] };
  }
  return from === 'active' ? uncertified({ matter }, unasked) : doubt({ matter }, unasked);
}
