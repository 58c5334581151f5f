/** A sender's worker thread: joins one channel, then sends as it is told. */
import { CHANNEL_QUEUE_BYTES_MAX } from '../../base/limits.ts';
import { DirectionKeys } from '../../crypto/key-schedule.ts';
import { Sealer } from '../../crypto/sealer.ts';
import { SUITES } from '../../crypto/suites.ts';
import { MigError } from '../../protocol/error.ts';
import { connectDataChannel } from '../../transport/data-channel.ts';
import type { Share } from '../../pages/share.ts';
import { viewGuestMemory, type GuestMemory } from './guest-memory.ts';
import { digestShare } from './memory-digest.ts';
import { NO_EXTENT, type SenderSetup } from './messages.ts';
import { Pacer } from './pacer.ts';
import { RecordWriter } from './record-writer.ts';
import { Sending } from './sending.ts';
import { threadClock } from './thread-clock.ts';
import { report, reportFailure, type Duty } from './worker-port.ts';

interface Held {
  readonly keys: DirectionKeys;
  readonly memory: GuestMemory;
  readonly pacer: Pacer;
  readonly share: Share;
}

/** What has come of the transfer; nothing before the channel joined. */
interface Progress {
  sending?: Sending;
}

async function join(setup: SenderSetup, held: Held, progress: Progress): Promise<Sending> {
  const { host, port, identity, expected, migrationId, channel } = setup;
  const { keys } = held;
  const socket = await connectDataChannel({
    host,
    port,
    identity,
    expected,
    join: { migrationId, channel, key: keys.join },
    clock: threadClock,
    highWaterMark: CHANNEL_QUEUE_BYTES_MAX,
  });
  const { suite, origin } = setup;
  const sealer = new Sealer({ suite: SUITES[suite], keys, channel, lineage: origin?.lineage });
  const writer = new RecordWriter(socket, setup.silenceMs, reportFailure);
  const sending = new Sending({ sealer, writer, report, clock: threadClock, ...held });
  progress.sending = sending;
  report({ kind: 'joined' });
  return sending;
}

export function runSender(setup: SenderSetup): Duty {
  const keys = DirectionKeys.receive(setup.keys);
  const memory = viewGuestMemory(setup.memory);
  const share = { index: setup.channel, of: setup.channels };
  const pacer = new Pacer(threadClock);
  const progress: Progress = {};
  const joined = join(setup, { keys, memory, pacer, share }, progress);
  joined.catch(reportFailure);
  return {
    reckon: (round) => progress.sending?.sentOf(round) ?? NO_EXTENT,
    wipe: () => keys[Symbol.dispose](),
    obey: async (command) => {
      switch (command.kind) {
        case 'limit':
          pacer.setLimit(command.bytesPerSecond);
          return;
        case 'sendRound': {
          const sending = await joined;
          report({ kind: 'round', round: await sending.round(command.n, command.what) });
          return;
        }
        case 'sendFinal': {
          const sending = await joined;
          const { round, tag } = await sending.final(command.n, command.stateBytes);
          report({ kind: 'round', round });
          report({ kind: 'final', stateBytes: command.stateBytes, tag });
          return;
        }
        case 'due':
          throw new MigError('INTERNAL', 'a command for a receiver');
        case 'digest':
          report({ kind: 'digest', blocks: await digestShare(memory.ram, share) });
      }
    },
  };
}
