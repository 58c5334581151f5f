/**
 * Phase D at the source: with the destination's receipt in hand, surrender durably, hand over the
 * token, and once the destination says that the VM runs there, destroy what is left of it here.
 */
import {
  activatedStatement,
  deletionStatement,
  receiptStatement,
  tokenStatement,
} from '../statement.ts';
import { abort, doubt } from './abort.ts';
import type { SourceRules } from './state.ts';

export const handover: SourceRules<
  'AwaitingDone' | 'Surrendering' | 'AwaitingActivated' | 'Deleting' | 'RecordingGone'
> = {
  AwaitingDone: {
    DONE: {
      to: ['Surrendering', 'Aborting'],
      run: (state, { message }) => {
        const { plan, subject, transcriptDigest } = state;
        const receipt = receiptStatement(subject, transcriptDigest);
        if (!plan.signedByPeer(receipt, message.signature)) {
          return abort(state, 'SIGNATURE_INVALID', 'receipt');
        }
        return {
          state: { kind: 'Surrendering', plan, subject, transcriptDigest },
          effects: [
            { kind: 'disarm' },
            {
              kind: 'surrender',
              subject,
              receipt: message.signature,
              statement: tokenStatement(subject, transcriptDigest),
            },
          ],
        };
      },
    },
  },

  Surrendering: {
    // It is not on disk, and no token has left: the VM stays here.
    surrenderFailed: {
      to: ['Aborting'],
      run: (state, { code, detail }) => abort(state, code, detail),
    },
    // Only now is it on disk: the token may leave.
    surrendered: {
      to: ['AwaitingActivated'],
      run: (state, { signature }) => ({
        state: { ...state, kind: 'AwaitingActivated' },
        effects: [
          { kind: 'send', message: { type: 'SURRENDER', signature } },
          { kind: 'arm', deadline: 'work' },
        ],
      }),
    },
  },

  AwaitingActivated: {
    ACTIVATED: {
      to: ['Deleting', 'Ended'],
      run: (state, { message }) => {
        const { plan, subject, transcriptDigest } = state;
        if (!plan.signedByPeer(activatedStatement(subject), message.signature)) {
          return doubt(state, 'SIGNATURE_INVALID', 'activation');
        }
        return {
          state: {
            kind: 'Deleting',
            plan,
            subject,
            transcriptDigest,
            activation: message.signature,
          },
          effects: [{ kind: 'arm', deadline: 'work' }, { kind: 'deleteGuest' }],
        };
      },
    },
  },

  Deleting: {
    guestDeleted: {
      to: ['RecordingGone'],
      run: (state, { deletion }) => {
        const { plan, subject, transcriptDigest, activation } = state;
        return {
          state: { kind: 'RecordingGone', plan, subject, transcriptDigest, deletion },
          effects: [
            { kind: 'disarm' },
            {
              kind: 'recordGone',
              activation,
              deletion,
              statement: deletionStatement(subject, deletion),
            },
          ],
        };
      },
    },
  },

  RecordingGone: {
    goneRecorded: {
      to: ['Ended'],
      run: ({ plan, deletion }, { signature }) => ({
        state: { kind: 'Ended', plan, outcome: 'completed', code: null, detail: '' },
        effects: [
          { kind: 'send', message: { type: 'DELETED', deletion, signature } },
          { kind: 'end' },
        ],
      }),
    },
  },
};
