/**
 * The end of a session at the source: with the destination's receipt in hand, surrender durably. What
 * follows is driven from the record: ../handover/source.ts.
 */
import { receiptStatement, tokenStatement } from '../statement.ts';
import { abort } from './abort.ts';
import type { SourceRules } from './state.ts';

export const handover: SourceRules<'AwaitingDone' | 'Surrendering'> = {
  AwaitingDone: {
    DONE: {
      to: ['Surrendering', 'Aborting'],
      run: (state, { message }) => {
        const { plan, subject, transcriptDigest, leavesPages } = state;
        const receipt = receiptStatement(subject, transcriptDigest);
        if (!plan.signedByPeer(receipt, message.signature)) {
          return abort(state, 'SIGNATURE_INVALID', 'receipt');
        }
        return {
          state: { kind: 'Surrendering', plan, subject, transcriptDigest, leavesPages },
          effects: [
            { kind: 'disarm' },
            {
              kind: 'surrender',
              subject,
              transcriptDigest,
              leavesPages,
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
      to: ['HandedOver'],
      run: ({ plan, subject, transcriptDigest }) => ({
        state: { kind: 'HandedOver', plan, subject },
        effects: [{ kind: 'handOver', subject, transcriptDigest }],
      }),
    },
  },
};
