/** Phase A at the destination: check that we are meant, pick among what the source offers. */
import { PROTOCOL_VERSION } from '../messages.ts';
import { POST_COPY, RESUME } from '../session.ts';
import { abort } from './abort.ts';
import type { DestinationRules } from './state.ts';

export const session: DestinationRules<'AwaitingHello'> = {
  AwaitingHello: {
    HELLO: {
      to: ['AwaitingAttRequest', 'Aborting'],
      run: (before, { message }) => {
        const { plan } = before;
        const { migrationId, versionMin, versionMax } = message;
        const suite = plan.suites.find((name) => message.suites.includes(name));
        const form = plan.forms.find((name) => message.forms.includes(name));
        const encodings = plan.encodings.filter((name) => message.encodings.includes(name));
        const channels = Math.min(message.channels, plan.channelsMax);
        if (message.to !== plan.host) return abort(before, 'PEER_WRONG', `this is ${plan.host}`);
        if (versionMin > PROTOCOL_VERSION || versionMax < PROTOCOL_VERSION) {
          return abort(before, 'VERSION_MISMATCH', `${versionMin} to ${versionMax} offered`);
        }
        if (suite === undefined) return abort(before, 'SUITE_MISMATCH', 'none of those offered');
        if (form === undefined) return abort(before, 'FORM_MISMATCH', 'none of those offered');
        const resumes = plan.resumes && message.features.includes(RESUME);
        const postCopy = plan.postCopies && message.features.includes(POST_COPY);
        if (plan.purpose === 'serve' && !postCopy) {
          return abort(before, 'POSTCOPY_UNSUPPORTED', plan.host);
        }
        const agreed = { suite, form, encodings, channels, resumes, postCopy };
        return {
          state: { kind: 'AwaitingAttRequest', plan, migrationId, agreed },
          effects: [
            { kind: 'open', migrationId, agreed },
            {
              kind: 'send',
              message: {
                type: 'HELLO_OK',
                version: PROTOCOL_VERSION,
                suite,
                form,
                encodings: [...encodings],
                channels,
                features: [...(resumes ? [RESUME] : []), ...(postCopy ? [POST_COPY] : [])],
              },
            },
            { kind: 'arm', deadline: 'reply' },
          ],
        };
      },
    },
  },
};
