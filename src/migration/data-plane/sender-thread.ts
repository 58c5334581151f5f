/** A sender's worker thread: joins one channel, then sends as it is told. */
import { CHANNEL_QUEUE_BYTES_MAX } from '../../base/limits.ts';
import { DirectionKeys } from '../../crypto/key-schedule.ts';
import { portableCiphers } from '../../crypto/record-cipher.ts';
import { Sealer } from '../../crypto/sealer.ts';
import { SUITES } from '../../crypto/suites.ts';
import { nativeCiphers } from '../../native/record-cipher.ts';
import { MigError } from '../../protocol/error.ts';
import { connectDataChannel } from '../../transport/data-channel.ts';
import { EncodingChoice } from '../../pages/encoding-choice.ts';
import type { Share } from '../../pages/share.ts';
import { BlockingWriter } from './blocking-writer.ts';
import { viewExchange, viewPushOrder, type Exchange } from './exchange-mapping.ts';
import { digestShare } from './memory-digest.ts';
import { NO_EXTENT, type SenderSetup } from './messages.ts';
import { Pacer } from './pacer.ts';
import { RamFile } from './ram-file.ts';
import { RecordWriter } from './record-writer.ts';
import { Sending } from './sending.ts';
import { threadClock, threadRandom } from './thread-ports.ts';
import { report, reportFailure, type Duty } from './worker-port.ts';

interface Held {
  readonly keys: DirectionKeys;
  readonly ram: RamFile;
  readonly exchange: Exchange;
  readonly pacer: Pacer;
  readonly share: Share;
}

/** What has come of the transfer; nothing before the channel joined. */
interface Progress {
  sending?: Sending;
  /** Of what holds keys besides the keys themselves. */
  readonly wipe: Disposable[];
}

async function join(setup: SenderSetup, held: Held, progress: Progress): Promise<Sending> {
  const { migrationId, channel, silenceMs, encodings, versionBytesMax } = setup;
  const { keys } = held;
  const carrier = await connectDataChannel({
    ...setup,
    join: { migrationId, channel, key: keys.join },
    clock: threadClock,
    random: threadRandom,
    highWaterMark: CHANNEL_QUEUE_BYTES_MAX,
  });
  const { suite, origin } = setup;
  // A native cipher uses its buffer again, and only a writer that waits is done with it by then.
  const isNative = carrier.engine === 'native';
  const ciphers = isNative ? nativeCiphers : portableCiphers;
  const lineage = origin?.lineage;
  const sealer = new Sealer({ suite: SUITES[suite], keys, channel, lineage, ciphers });
  progress.wipe.push(sealer);
  if (isNative) progress.wipe.push(carrier.link);
  const writer = isNative
    ? new BlockingWriter(carrier.link, silenceMs, threadClock)
    : new RecordWriter(carrier.socket, silenceMs, reportFailure);
  const sending = new Sending({
    sealer,
    writer,
    report,
    clock: threadClock,
    encodings,
    choice: new EncodingChoice(),
    versionBytesMax,
    ...held,
  });
  progress.sending = sending;
  report({ kind: 'joined', fd: isNative ? carrier.link.fd : null });
  return sending;
}

export function runSender(setup: SenderSetup): Duty {
  const keys = DirectionKeys.receive(setup.keys);
  const { ramBytes } = setup.exchange;
  const ram = new RamFile(setup.ramPath, ramBytes);
  const exchange = viewExchange(setup.exchange);
  const share = { index: setup.channel, of: setup.channels };
  const pacer = new Pacer(threadClock);
  const progress: Progress = { wipe: [keys] };
  const joined = join(setup, { keys, ram, exchange, pacer, share }, progress);
  joined.catch(reportFailure);
  return {
    reckon: (round) => progress.sending?.sentOf(round) ?? NO_EXTENT,
    wipe: () => progress.wipe.forEach((each) => each[Symbol.dispose]()),
    obey: async (command) => {
      switch (command.kind) {
        case 'limit':
          // A little more each time is noticed by itself.
          if (pacer.setLimit(command.bytesPerSecond) === 'lifted') progress.sending?.limitLifted();
          return;
        case 'sendRound': {
          const sending = await joined;
          report({ kind: 'round', round: await sending.round(command.n, command.what) });
          return;
        }
        case 'sendFinal': {
          const sending = await joined;
          const { n, stateBytes, leavesPages } = command;
          const { round, tag } = await sending.final(n, stateBytes, leavesPages);
          report({ kind: 'round', round });
          report({ kind: 'final', stateBytes, tag });
          return;
        }
        case 'push': {
          const sending = await joined;
          await sending.push(viewPushOrder(setup.exchange));
          return;
        }
        case 'digest':
          report({ kind: 'digest', blocks: await digestShare(ram, ramBytes, share) });
          return;
        case 'due':
        case 'answer':
        case 'count':
          throw new MigError('INTERNAL', `${command.kind}: a command for another`);
      }
    },
  };
}
