/**
 * Phase C at the destination: admit the VM, confirm each round against the source's word, and make
 * what arrived durable as PREPARED before the receipt leaves.
 */
import { finalStatement, receiptStatement, type Subject } from '../statement.ts';
import { equalBytes } from '../../base/bytes.ts';
import type { MessageOf } from '../messages.ts';
import type { ResumePoint } from '../resume-point.ts';
import { abort } from './abort.ts';
import { breaks } from './holding.ts';
import type { DestinationRules } from './state.ts';

export const transfer: DestinationRules<
  'AwaitingOffer' | 'Admitting' | 'Receiving' | 'ConfirmingRound' | 'ConfirmingFinal' | 'Preparing'
> = {
  AwaitingOffer: {
    OFFER: {
      to: ['Admitting'],
      run: ({ plan, migrationId, agreed }, { message }) => {
        const { descriptor, epoch, verify } = message;
        const subject: Subject = {
          migrationId,
          vmId: descriptor.vmId,
          epoch,
          from: plan.from,
          to: plan.host,
        };
        return {
          state: { kind: 'Admitting', plan, migrationId, agreed, subject, verify },
          effects: [
            { kind: 'arm', deadline: 'work' },
            { kind: 'admit', offer: message, agreed },
          ],
        };
      },
    },
  },

  Admitting: {
    admitted: {
      to: ['Receiving'],
      run: (state, { reservation, ports, resume }) => ({
        state: { ...state, kind: 'Receiving', round: resume === null ? 0 : resume.round + 1 },
        // The rounds are bounded by the source; a silent peer is found by its missing pongs.
        effects: [
          { kind: 'disarm' },
          { kind: 'send', message: accept(reservation, ports, resume) },
        ],
      }),
    },
    notAdmitted: {
      to: ['Aborting'],
      run: (state, { code, detail }) => {
        const step = abort(state, code, detail, 'say nothing');
        const refusal = { type: 'REFUSED', code, detail: detail.slice(0, 512) } as const;
        return { ...step, effects: [{ kind: 'send', message: refusal }, ...step.effects] };
      },
    },
  },

  Receiving: {
    ROUND_END: {
      to: ['ConfirmingRound', 'Aborting'],
      run: (state, { message: end }) => {
        const { plan, migrationId, agreed, subject, verify, round } = state;
        if (end.round !== round) {
          return abort(state, 'MESSAGE_UNEXPECTED', `ROUND_END ${end.round}, expected ${round}`);
        }
        return {
          state: { kind: 'ConfirmingRound', plan, migrationId, agreed, subject, verify, end },
          effects: [
            { kind: 'arm', deadline: 'confirm' },
            { kind: 'awaitRound', round },
          ],
        };
      },
    },
    FINAL: {
      to: ['ConfirmingFinal', 'Aborting'],
      run: (state, { message: final }) => {
        const { plan, migrationId, agreed, subject, verify, round } = state;
        if (final.round !== round) {
          return abort(state, 'MESSAGE_UNEXPECTED', `FINAL ${final.round}, expected ${round}`);
        }
        const statement = finalStatement(
          subject,
          final.transcriptDigest,
          final.stateBytes,
          final.memoryDigest,
        );
        if (!plan.signedByPeer(statement, final.signature)) {
          return abort(state, 'SIGNATURE_INVALID', 'final');
        }
        return {
          state: { kind: 'ConfirmingFinal', plan, migrationId, agreed, subject, verify, final },
          effects: [
            { kind: 'arm', deadline: 'confirm' },
            { kind: 'awaitFinal', verify },
          ],
        };
      },
    },
    ...breaks,
  },

  ConfirmingRound: {
    roundReceived: {
      to: ['Receiving', 'Aborting'],
      run: (state, { pages, tag }) => {
        const { plan, migrationId, agreed, subject, verify, end } = state;
        if (pages !== end.pages || !equalBytes(tag, end.tag)) {
          return abort(state, 'TRANSCRIPT_MISMATCH', `round ${end.round}`);
        }
        return {
          state: {
            kind: 'Receiving',
            plan,
            migrationId,
            agreed,
            subject,
            verify,
            round: end.round + 1,
          },
          effects: [
            { kind: 'disarm' },
            { kind: 'send', message: { type: 'ROUND_OK', round: end.round } },
          ],
        };
      },
    },
    ...breaks,
  },

  ConfirmingFinal: {
    finalReceived: {
      to: ['Preparing', 'Aborting'],
      run: (state, { transcriptDigest, stateBytes, memoryDigest, absentPages }) => {
        const { plan, migrationId, agreed, subject, verify, final } = state;
        if (!equalBytes(transcriptDigest, final.transcriptDigest)) {
          return abort(state, 'TRANSCRIPT_MISMATCH', 'final');
        }
        if (stateBytes !== final.stateBytes) return abort(state, 'TRANSCRIPT_MISMATCH', 'state');
        if (verify && !equalBytes(memoryDigest, final.memoryDigest)) {
          return abort(state, 'VERIFY_MISMATCH', '');
        }
        return {
          state: { kind: 'Preparing', plan, migrationId, agreed, subject, transcriptDigest },
          effects: [
            { kind: 'arm', deadline: 'work' },
            {
              kind: 'prepare',
              subject,
              transcriptDigest,
              leavesPages: absentPages > 0,
              final: {
                transcriptDigest,
                stateBytes,
                memoryDigest: final.memoryDigest,
                signature: final.signature,
              },
              statement: receiptStatement(subject, transcriptDigest),
            },
          ],
        };
      },
    },
  },

  Preparing: {
    // Only now is it on disk: the receipt may leave.
    prepared: {
      to: ['HandedOver'],
      run: ({ plan, migrationId, subject, transcriptDigest }) => ({
        state: { kind: 'HandedOver', plan, migrationId },
        effects: [{ kind: 'disarm' }, { kind: 'handOver', subject, transcriptDigest }],
      }),
    },
    prepareFailed: {
      to: ['Aborting'],
      run: (state, { code, detail }) =>
        abort(state, code, detail, code === 'STORE_UNCERTAIN' ? 'say nothing' : 'tell the peer'),
    },
  },
};

const accept = (
  reservation: string,
  ports: readonly number[],
  resume: ResumePoint | null,
): MessageOf<'ACCEPT'> => ({
  type: 'ACCEPT',
  reservation,
  ports: [...ports],
  resume: resume && { ...resume, accepted: [...resume.accepted] },
});
