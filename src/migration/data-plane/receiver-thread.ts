/** A receiver's worker thread: listens for one channel, then receives until its end. */
import type { Socket } from 'node:net';
import { assert } from '../../base/assert.ts';
import { DirectionKeys } from '../../crypto/key-schedule.ts';
import { Opener } from '../../crypto/opener.ts';
import { portableCiphers } from '../../crypto/record-cipher.ts';
import { SUITES } from '../../crypto/suites.ts';
import { nativeCiphers } from '../../native/record-cipher.ts';
import { MigError } from '../../protocol/error.ts';
import { listenDataChannel } from '../../transport/data-channel.ts';
import { BlockingReader } from './blocking-reader.ts';
import { Garbage } from './garbage.ts';
import { viewAbsence, viewExchange } from './exchange-mapping.ts';
import { LatePages } from '../../pages/late-pages.ts';
import { digestShare } from './memory-digest.ts';
import { RamFile } from './ram-file.ts';
import { NO_EXTENT, type ReceiverSetup } from './messages.ts';
import { Receiving } from './receiving.ts';
import { RecordReader } from './record-reader.ts';
import { Silence } from './silence.ts';
import { threadClock, threadRandom } from './thread-ports.ts';
import { report, reportFailure, type Duty } from './worker-port.ts';

/** What has come of the transfer; nothing before the channel joined. */
interface Progress {
  receiving?: Receiving;
  /** What holds keys. */
  readonly wipe: Disposable[];
}

async function receive(
  setup: ReceiverSetup,
  keys: DirectionKeys,
  ram: RamFile,
  progress: Progress,
  silence: Silence,
): Promise<void> {
  const { migrationId, channel, silenceMs } = setup;
  const listener = await listenDataChannel({
    ...setup,
    join: { migrationId, channel, key: keys.join },
    clock: threadClock,
    random: threadRandom,
  });
  report({ kind: 'listening', port: listener.port });
  const carrier = await listener.joined;
  const isNative = carrier.engine === 'native';
  report({ kind: 'joined', fd: isNative ? carrier.link.fd : null });
  const { suite, origin } = setup;
  const ciphers = isNative ? nativeCiphers : portableCiphers;
  const lineage = origin?.lineage;
  const opener = new Opener({ suite: SUITES[suite], keys, channel, lineage, ciphers });
  progress.wipe.push(opener);
  const { state } = viewExchange(setup.exchange);
  const receiving = new Receiving({
    channel,
    encodings: setup.encodings,
    opener,
    region: ram,
    late: setup.postCopy ? lateIn(setup, ram) : undefined,
    state,
    firstRound: origin?.round ?? 0,
    report,
  });
  progress.receiving = receiving;
  const heard = () => silence.heard();
  if (isNative) {
    const { link } = carrier;
    progress.wipe.push(link);
    const clock = threadClock;
    await new BlockingReader({ link, opener, sink: receiving, silenceMs, clock, heard }).run();
    return;
  }
  const { socket } = carrier;
  socket.on('data', heard);
  socket.setTimeout(silenceMs);
  readAll(socket, new RecordReader(opener, receiving), receiving);
}

const lateIn = ({ exchange, isLate }: ReceiverSetup, ram: RamFile) => ({
  isAll: isLate,
  region: new LatePages(ram, viewAbsence(exchange), () => report({ kind: 'whole' })),
  absent: viewExchange(exchange).dirty.bytes,
});

/** Everything that ends the socket before the end record was accepted is a failure. */
function readAll(socket: Socket, reader: RecordReader, receiving: Receiving): void {
  const garbage = new Garbage();
  let isOver = false;
  const fail = (error: MigError): void => {
    if (isOver) return;
    isOver = true;
    socket.destroy();
    reportFailure(error);
  };
  const lost = (detail: string): void => {
    if (!receiving.isOver) fail(new MigError('CHANNEL_LOST', detail));
  };
  socket.on('data', (bytes: Buffer) => {
    if (isOver) return;
    try {
      reader.push(bytes);
      garbage.add(bytes.length);
    } catch (thrown) {
      fail(MigError.from(thrown));
    }
  });
  socket.on('timeout', () => {
    if (reader.isWithin) fail(new MigError('PEER_SILENT', 'in the middle of a record'));
  });
  socket.on('end', () => lost('ended before the end of the data'));
  socket.on('error', (error) => lost(error.message));
  socket.on('close', () => lost('closed before the end of the data'));
  socket.resume();
}

export function runReceiver(setup: ReceiverSetup): Duty {
  const keys = DirectionKeys.receive(setup.keys);
  const { ramBytes } = setup.exchange;
  const ram = new RamFile(setup.ramPath, ramBytes);
  const share = { index: setup.channel, of: setup.channels };
  const progress: Progress = { wipe: [keys] };
  const silence = new Silence(threadClock, setup.silenceMs, () =>
    reportFailure(new MigError('PEER_SILENT', 'announced data does not come')),
  );
  receive(setup, keys, ram, progress, silence).catch(reportFailure);
  return {
    reckon: (round) => {
      const { receiving } = progress;
      return receiving === undefined ? NO_EXTENT : receiving.acceptedOf(round);
    },
    wipe: () => progress.wipe.forEach((each) => each[Symbol.dispose]()),
    obey: async (command) => {
      if (command.kind === 'due') {
        silence.watch(() => progress.receiving?.has(command.rounds) !== true);
        return;
      }
      assert(command.kind === 'digest', 'a command for a sender');
      report({ kind: 'digest', blocks: await digestShare(ram, ramBytes, share) });
    },
  };
}
