/**
 * The handover at the source, from the moment SURRENDERED is on disk. It never runs this epoch again
 * unless the destination proves that it never will, or an operator states that it was fenced:
 *
 *     AwaitingActivated ⇄ InDoubt
 *       ├─ ACTIVATED → Deleting → RecordingGone → Settled (gone)
 *       ├─ RUNNING → Serving ⇄ ServingAlone ─ ACTIVATED → Deleting
 *       └─ the destination's signed ABORT → Reclaiming → Settled (reclaimed)
 */
import { machine, type Row, type Rules, type Step } from '../machine.ts';
import type { Code } from '../codes.ts';
import type { Deletion, FaultCounts } from '../messages.ts';
import {
  abortStatement,
  activatedStatement,
  deletionStatement,
  receiptStatement,
  runningStatement,
} from '../statement.ts';
import {
  sayDeleted,
  sayToken,
  type Cause,
  type Fencing,
  type Matter,
  type Settled,
  type SharedEffect,
  type SharedEvent,
} from './matter.ts';

export type SourceState =
  | { readonly kind: 'AwaitingActivated'; readonly matter: Matter }
  | { readonly kind: 'InDoubt'; readonly matter: Matter; readonly cause: Cause }
  /** It runs at the destination, and pages of it are here: it can never be had back. */
  | { readonly kind: 'Serving'; readonly matter: Matter }
  | { readonly kind: 'ServingAlone'; readonly matter: Matter; readonly cause: Cause }
  | { readonly kind: 'Deleting'; readonly matter: Matter; readonly activation: Uint8Array }
  | {
      readonly kind: 'RecordingGone';
      readonly matter: Matter;
      readonly activation: Uint8Array;
      readonly deletion: Deletion;
    }
  | { readonly kind: 'Reclaiming'; readonly matter: Matter; readonly reason: Reason }
  | Settled;

/** Why the VM is ours again. */
export interface Reason {
  readonly code: Code;
  readonly detail: string;
  readonly fencing: Fencing | null;
}

/** What comes of the work. */
export type SourceDone =
  | { readonly kind: 'guestDeleted'; readonly deletion: Deletion }
  | { readonly kind: 'goneRecorded' }
  | { readonly kind: 'reclaimed' };

/** What is done to the guest and the records. */
export type SourceWork =
  /** Send the pages that were left here, to whoever proves to be the destination; until it is deleted. */
  | { readonly kind: 'serve' }
  /** Put on record what there is to destroy; destroy it, the vTPM's key first; then `guestDeleted`. */
  | {
      readonly kind: 'deleteGuest';
      readonly activation: Uint8Array;
      /** How they went while pages were to come, as the destination says; for the operator. */
      readonly faults?: FaultCounts | undefined;
    }
  /** Write GONE with the certificate, sync; then `goneRecorded`. */
  | {
      readonly kind: 'recordGone';
      readonly activation: Uint8Array;
      readonly deletion: Deletion;
      readonly statement: Uint8Array;
    }
  /** Write the VM active with an epoch that was never promised, sync, then let it run; `reclaimed`. */
  | { readonly kind: 'reclaim'; readonly epoch: number; readonly reason: Reason };

type SourceEvent = SharedEvent | SourceDone;
type SourceEffect = SharedEffect | SourceWork;
type Next = Step<SourceState, SourceEffect>;
type Of = { readonly matter: Matter };
type SourceRules = Rules<SourceState, SourceEvent, SourceEffect, SourceState['kind']>;

/** The epoch with which the source takes its VM back: the one after it was promised away. */
export const reclaimedEpoch = (surrendered: number): number => surrendered + 2;

/** It is said, and the answer is waited for. */
const ask = (matter: Matter): Next => ({
  state: { kind: 'AwaitingActivated', matter },
  effects: [sayToken(matter), { kind: 'arm' }],
});

/** Everything is kept, and asked for again later. */
const doubt = ({ matter }: Of, cause: Cause): Next => ({
  state: { kind: 'InDoubt', matter, cause },
  effects: [{ kind: 'disarm' }, { kind: 'part' }, { kind: 'retryLater' }],
});

const reclaim = (matter: Matter, reason: Reason): Next => ({
  state: { kind: 'Reclaiming', matter, reason },
  effects: [{ kind: 'disarm' }, takeBack(matter, reason)],
});

const takeBack = ({ subject }: Matter, reason: Reason): SourceEffect => ({
  kind: 'reclaim',
  epoch: reclaimedEpoch(subject.epoch),
  reason,
});

const recordGone = (matter: Matter, activation: Uint8Array, deletion: Deletion): SourceEffect => ({
  kind: 'recordGone',
  activation,
  deletion,
  statement: deletionStatement(matter.subject, deletion),
});

/** The destination's words mean the same whether or not one was waited for. */
const words = {
  DONE: {
    to: ['AwaitingActivated', 'InDoubt'],
    run: (state, { message }) => {
      const { matter } = state;
      const receipt = receiptStatement(matter.subject, matter.transcriptDigest);
      return matter.signedByPeer(receipt, message.signature)
        ? ask(matter)
        : doubt(state, { code: 'SIGNATURE_INVALID', detail: 'receipt' });
    },
  },
  ACTIVATED: {
    to: ['Deleting', 'InDoubt'],
    run: (state, { message }) => {
      const { matter } = state;
      if (!matter.signedByPeer(activatedStatement(matter.subject), message.signature)) {
        return doubt(state, { code: 'SIGNATURE_INVALID', detail: 'activation' });
      }
      return {
        state: { kind: 'Deleting', matter, activation: message.signature },
        effects: [{ kind: 'disarm' }, { kind: 'deleteGuest', activation: message.signature }],
      };
    },
  },
  RUNNING: {
    to: ['Serving', 'InDoubt'],
    run: (state, { message }) => {
      const { matter } = state;
      if (!matter.leavesPages) return doubt(state, unexpected(message.type));
      return matter.signedByPeer(runningStatement(matter.subject), message.signature)
        ? { state: { kind: 'Serving', matter }, effects: [{ kind: 'disarm' }, { kind: 'serve' }] }
        : doubt(state, { code: 'SIGNATURE_INVALID', detail: 'running' });
    },
  },
  // It lost what it held, on record: nobody else can run the VM any more.
  ABORT: {
    to: ['Reclaiming', 'InDoubt'],
    run: (state, { message }) => {
      const { matter } = state;
      const statement = abortStatement(matter.subject.migrationId, 'destination', message.code);
      return matter.signedByPeer(statement, message.signature)
        ? reclaim(matter, { code: 'STATE_LOST', detail: message.code, fencing: null })
        : doubt(state, { code: 'SIGNATURE_INVALID', detail: 'abort' });
    },
  },
  UNKNOWN: {
    to: ['InDoubt'],
    run: (state) => doubt(state, { code: 'MIGRATION_UNKNOWN', detail: state.matter.subject.to }),
  },
} satisfies Row<SourceState, SourceEvent, SourceEffect, Of>;

/** It goes on serving; the word that is missing is asked for later. */
const alone = ({ matter }: Of, cause: Cause): Next => ({
  state: { kind: 'ServingAlone', matter, cause },
  effects: [{ kind: 'disarm' }, { kind: 'part' }, { kind: 'retryLater' }],
});

const unexpected = (type: string): Cause => ({ code: 'MESSAGE_UNEXPECTED', detail: type });

/** What the destination may say while it gets its pages. Nothing brings the VM back. */
const wordsWhileServing = {
  RUNNING: {
    to: ['Serving', 'ServingAlone'],
    run: (state, { message }) => {
      const { matter } = state;
      return matter.signedByPeer(runningStatement(matter.subject), message.signature)
        ? { state: { kind: 'Serving', matter }, effects: [{ kind: 'disarm' }] }
        : alone(state, { code: 'SIGNATURE_INVALID', detail: 'running' });
    },
  },
  ACTIVATED: {
    to: ['Deleting', 'ServingAlone'],
    run: (state, { message }) => {
      const { matter } = state;
      if (!matter.signedByPeer(activatedStatement(matter.subject), message.signature)) {
        return alone(state, { code: 'SIGNATURE_INVALID', detail: 'activation' });
      }
      return {
        state: { kind: 'Deleting', matter, activation: message.signature },
        effects: [
          { kind: 'disarm' },
          { kind: 'deleteGuest', activation: message.signature, faults: message.faults },
        ],
      };
    },
  },
  ABORT: {
    to: ['ServingAlone'],
    run: (state, { message }) => alone(state, unexpected(message.type)),
  },
  UNKNOWN: {
    to: ['ServingAlone'],
    run: (state) => alone(state, { code: 'MIGRATION_UNKNOWN', detail: state.matter.subject.to }),
  },
  failed: {
    to: ['ServingAlone'],
    run: (state, { code, detail }) => alone(state, { code, detail }),
  },
} satisfies Row<SourceState, SourceEvent, SourceEffect, Of>;

export const SOURCE_HANDOVER: SourceRules = {
  AwaitingActivated: {
    ...words,
    // Told again; the wait for its answer goes on.
    DONE: {
      to: words.DONE.to,
      run: (state, event) => {
        const next = words.DONE.run(state, event);
        return next.state.kind === 'InDoubt' ? next : { state, effects: [sayToken(state.matter)] };
      },
    },
    parted: { to: ['InDoubt'], run: (state, { code, detail }) => doubt(state, { code, detail }) },
    failed: { to: ['InDoubt'], run: (state, { code, detail }) => doubt(state, { code, detail }) },
    deadlinePassed: {
      to: ['InDoubt'],
      run: (state) => doubt(state, { code: 'PEER_SILENT', detail: state.kind }),
    },
  },

  InDoubt: {
    ...words,
    due: { to: ['InDoubt'], run: (state) => ({ state, effects: [{ kind: 'reach' }] }) },
    reached: { to: ['AwaitingActivated'], run: ({ matter }) => ask(matter) },
    parted: {
      to: ['InDoubt'],
      run: ({ kind, matter }, { code, detail }) => ({
        state: { kind, matter, cause: { code, detail } },
        effects: [{ kind: 'retryLater' }],
      }),
    },
    fenced: {
      to: ['Reclaiming'],
      run: ({ matter }, { fencing }) => reclaim(matter, { code: 'FENCED', detail: '', fencing }),
    },
  },

  Serving: {
    ...wordsWhileServing,
    parted: {
      to: ['ServingAlone'],
      run: (state, { code, detail }) => alone(state, { code, detail }),
    },
  },

  ServingAlone: {
    ...wordsWhileServing,
    due: { to: ['ServingAlone'], run: (state) => ({ state, effects: [{ kind: 'reach' }] }) },
    // What it answers to the token says how far it is.
    reached: {
      to: ['ServingAlone'],
      run: (state) => ({ state, effects: [sayToken(state.matter), { kind: 'arm' }] }),
    },
    deadlinePassed: {
      to: ['ServingAlone'],
      run: (state) => alone(state, { code: 'PEER_SILENT', detail: state.kind }),
    },
    parted: {
      to: ['ServingAlone'],
      run: ({ kind, matter }, { code, detail }) => ({
        state: { kind, matter, cause: { code, detail } },
        effects: [{ kind: 'disarm' }, { kind: 'retryLater' }],
      }),
    },
  },

  Deleting: {
    guestDeleted: {
      to: ['RecordingGone'],
      run: ({ matter, activation }, { deletion }) => ({
        state: { kind: 'RecordingGone', matter, activation, deletion },
        effects: [recordGone(matter, activation, deletion)],
      }),
    },
    failed: { to: ['Deleting'], run: (state) => ({ state, effects: [{ kind: 'retryLater' }] }) },
    due: {
      to: ['Deleting'],
      run: (state) => ({ state, effects: [{ kind: 'deleteGuest', activation: state.activation }] }),
    },
  },

  RecordingGone: {
    goneRecorded: {
      to: ['Settled'],
      run: ({ matter, deletion }) => ({
        state: { kind: 'Settled', matter, outcome: 'gone', code: null, detail: '' },
        effects: [sayDeleted(matter.subject, deletion), { kind: 'settle' }],
      }),
    },
    // A disk that is full now may have room later; what was destroyed is remembered meanwhile.
    failed: {
      to: ['RecordingGone'],
      run: (state) => ({ state, effects: [{ kind: 'retryLater' }] }),
    },
    due: {
      to: ['RecordingGone'],
      run: (state) => ({
        state,
        effects: [recordGone(state.matter, state.activation, state.deletion)],
      }),
    },
  },

  Reclaiming: {
    reclaimed: {
      to: ['Settled'],
      run: ({ matter, reason: { code, detail } }) => ({
        state: { kind: 'Settled', matter, outcome: 'reclaimed', code, detail },
        effects: [{ kind: 'settle' }],
      }),
    },
    failed: { to: ['Reclaiming'], run: (state) => ({ state, effects: [{ kind: 'retryLater' }] }) },
    due: {
      to: ['Reclaiming'],
      run: (state) => ({ state, effects: [takeBack(state.matter, state.reason)] }),
    },
  },

  Settled: {},
};

/** What has no rule changes nothing: a word that comes twice, a link that breaks when none is needed. */
export const stepSourceHandover = machine<SourceState, SourceEvent, SourceEffect>(
  SOURCE_HANDOVER,
  (state) => ({ state, effects: [] }),
);

/** Where it begins: on the session's link, or (after a crash) without one. */
export const beginSourceHandover = (matter: Matter, link: 'linked' | 'alone'): Next =>
  link === 'linked'
    ? ask(matter)
    : doubt({ matter }, { code: 'PEER_CLOSED', detail: 'not asked yet' });
