/**
 * Phase D at the destination: with the source's token, write ACTIVE (the commit point), start the
 * VM, say so, and file the source's deletion certificate.
 */
import { MigError } from '../error.ts';
import {
  abortStatement,
  activatedStatement,
  deletionStatement,
  tokenStatement,
} from '../statement.ts';
import { abort, completed, doubt } from './abort.ts';
import type { DestinationRules } from './state.ts';

export const handover: DestinationRules<
  'AwaitingSurrender' | 'Activating' | 'Starting' | 'AwaitingDeletion' | 'Filing'
> = {
  AwaitingSurrender: {
    SURRENDER: {
      to: ['Activating', 'Ended'],
      run: (state, { message: { signature } }) => {
        const { plan, subject, transcriptDigest } = state;
        if (!plan.signedByPeer(tokenStatement(subject, transcriptDigest), signature)) {
          return doubt(state, 'SIGNATURE_INVALID', 'token');
        }
        return {
          state: { ...state, kind: 'Activating' },
          effects: [{ kind: 'disarm' }, { kind: 'recordActive', subject, token: signature }],
        };
      },
    },
    // The source's signed word that it did not surrender, and only that, ends PREPARED.
    ABORT: {
      to: ['Aborting', 'Ended'],
      run: (state, { message }) => {
        const { plan, migrationId } = state;
        const { code } = MigError.named(message.code, message.detail, 'PEER_CLOSED');
        const statement = abortStatement(migrationId, 'source', message.code);
        return plan.signedByPeer(statement, message.signature)
          ? abort(state, code, message.detail, 'say nothing')
          : doubt(state, 'SIGNATURE_INVALID', 'abort');
      },
    },
  },

  Activating: {
    activeRecorded: {
      to: ['Starting'],
      run: (state) => ({
        state: { ...state, kind: 'Starting' },
        effects: [
          { kind: 'arm', deadline: 'work' },
          { kind: 'startGuest', statement: activatedStatement(state.subject) },
        ],
      }),
    },
  },

  Starting: {
    guestStarted: {
      to: ['AwaitingDeletion'],
      run: (state, { signature }) => ({
        state: { ...state, kind: 'AwaitingDeletion' },
        effects: [
          { kind: 'send', message: { type: 'ACTIVATED', signature } },
          { kind: 'arm', deadline: 'work' },
        ],
      }),
    },
  },

  AwaitingDeletion: {
    DELETED: {
      to: ['Filing', 'Ended'],
      run: (state, { message: { deletion, signature } }) => {
        const { plan, subject } = state;
        const statement = deletionStatement(subject, deletion);
        if (!plan.signedByPeer(statement, signature)) {
          return completed(state, 'the deletion certificate does not verify');
        }
        return {
          state: { ...state, kind: 'Filing' },
          effects: [
            { kind: 'disarm' },
            { kind: 'fileCertificate', deletion, statement, signature },
          ],
        };
      },
    },
  },

  Filing: {
    filed: { to: ['Ended'], run: (state) => completed(state, '') },
  },
};
