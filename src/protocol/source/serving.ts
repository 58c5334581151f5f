/**
 * A session in which pages are served that were left of a VM that was handed over: attested anew, like
 * any, and then at once its channels. Nothing that happens in it changes what is on record.
 */
import { portsOf } from '../session.ts';
import { abort } from './abort.ts';
import { breaks } from './reconnect.ts';
import type { SourceRules } from './state.ts';

export const serving: SourceRules<'AwaitingPull' | 'JoiningToServe' | 'Joined'> = {
  AwaitingPull: {
    PULL: {
      to: ['JoiningToServe', 'Aborting'],
      run: (state, { message }) => {
        const { plan, agreed, outage } = state;
        const { ports } = message;
        if (ports.length !== portsOf(agreed)) {
          return abort(state, 'MESSAGE_MALFORMED', 'PULL with another number of ports');
        }
        return {
          state: { kind: 'JoiningToServe', plan, agreed, outage },
          effects: [
            { kind: 'arm', deadline: 'work' },
            { kind: 'joinChannels', agreed, ports, resume: null },
          ],
        };
      },
    },
    ...breaks,
  },

  JoiningToServe: {
    channelsJoined: {
      to: ['Joined'],
      run: ({ plan }) => ({ state: { kind: 'Joined', plan }, effects: [{ kind: 'disarm' }] }),
    },
    ...breaks,
  },

  Joined: {},
};
