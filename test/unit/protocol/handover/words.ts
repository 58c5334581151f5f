/** A handover to talk to: what it is about, and what the other host may say, signed or forged. */
import type { Fencing, Matter, SharedEvent } from '../../../../src/protocol/handover/matter.ts';
import type { MessageOf } from '../../../../src/protocol/messages.ts';
import {
  abortStatement,
  activatedStatement,
  deletionStatement,
  receiptStatement,
  runningStatement,
  tokenStatement,
  type Subject,
} from '../../../../src/protocol/statement.ts';

export const SUBJECT: Subject = {
  migrationId: '01980000-0000-7000-8000-000000000001',
  vmId: '2f1b6f0e-6a7a-4b0e-9d5c-0123456789ab',
  epoch: 4,
  from: 'host-a',
  to: 'host-b',
};

const DIGEST = new Uint8Array(48).fill(5);

/** Pretend signatures: a statement is its own. */
export const MATTER: Matter = {
  subject: SUBJECT,
  transcriptDigest: DIGEST,
  leavesPages: false,
  signedByPeer: (statement, signature) => Buffer.compare(statement, signature) === 0,
};

/** The same, with pages that come when the guest runs at the destination already. */
export const SPLIT: Matter = { ...MATTER, leavesPages: true };

export const FENCING: Fencing = { operator: 'alice', atMs: 1 };

export const DELETION: MessageOf<'DELETED'>['deletion'] = {
  stateDigest: new Uint8Array(48),
  filesDestroyed: 2,
  bytesOverwritten: 10,
};

type Word = Extract<SharedEvent, { readonly message: object }>;

const abort = (side: 'source' | 'destination', code: string): Word => ({
  kind: 'ABORT',
  message: {
    type: 'ABORT',
    code,
    detail: '',
    signature: abortStatement(SUBJECT.migrationId, side, code),
  },
});

/** What the source says. */
export const SOURCE_SAYS = {
  surrender: {
    kind: 'SURRENDER',
    message: { type: 'SURRENDER', signature: tokenStatement(SUBJECT, DIGEST) },
  },
  deleted: {
    kind: 'DELETED',
    message: {
      type: 'DELETED',
      deletion: DELETION,
      signature: deletionStatement(SUBJECT, DELETION),
    },
  },
  abort: abort('source', 'CANCELLED'),
  reclaimed: abort('source', 'FENCED'),
} satisfies Record<string, Word>;

/** What the destination says. */
export const DESTINATION_SAYS = {
  done: {
    kind: 'DONE',
    message: { type: 'DONE', signature: receiptStatement(SUBJECT, DIGEST) },
  },
  activated: {
    kind: 'ACTIVATED',
    message: { type: 'ACTIVATED', final: null, signature: activatedStatement(SUBJECT) },
  },
  running: { kind: 'RUNNING', message: { type: 'RUNNING', signature: runningStatement(SUBJECT) } },
  abort: abort('destination', 'STATE_LOST'),
} satisfies Record<string, Word>;

/** The same word, signed by nobody. */
export const forged = (word: Word): Word =>
  ({ ...word, message: { ...word.message, signature: new Uint8Array(64) } }) as Word;

/** It has no record of this migration. */
export const UNKNOWN: SharedEvent = { kind: 'UNKNOWN' };

/** What may befall a link, or its absence. */
export const PARTED: SharedEvent = { kind: 'parted', code: 'PEER_CLOSED', detail: '' };
export const FAILED: SharedEvent = { kind: 'failed', code: 'STORE_FAILED', detail: 'full' };

interface Kinded {
  readonly kind: string;
}

/** A step in words: the state, then what is asked for; what is said by the name of the message. */
export const told = (step: {
  readonly state: Kinded;
  readonly effects: readonly (Kinded & { readonly message?: { readonly type: string } })[];
}): readonly string[] => [
  step.state.kind,
  ...step.effects.map((effect) => effect.message?.type ?? effect.kind),
];
