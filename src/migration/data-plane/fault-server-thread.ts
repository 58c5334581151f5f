/** The source's thread of the channel on which pages are asked for: joins it, then answers. */
import { CHANNEL_QUEUE_BYTES_MAX } from '../../base/limits.ts';
import { DirectionKeys } from '../../crypto/key-schedule.ts';
import { Opener } from '../../crypto/opener.ts';
import { portableCiphers } from '../../crypto/record-cipher.ts';
import { Sealer } from '../../crypto/sealer.ts';
import { SUITES } from '../../crypto/suites.ts';
import { nativeCiphers } from '../../native/record-cipher.ts';
import { MigError } from '../../protocol/error.ts';
import { connectDataChannel } from '../../transport/data-channel.ts';
import { BlockingReader } from './blocking-reader.ts';
import { BlockingWriter } from './blocking-writer.ts';
import { viewExchange, viewPushOrder } from './exchange-mapping.ts';
import { FaultServer } from './fault-server.ts';
import { NO_EXTENT, type FaultServerSetup } from './messages.ts';
import { RamFile } from './ram-file.ts';
import { RecordReader } from './record-reader.ts';
import { RecordWriter } from './record-writer.ts';
import { threadClock, threadRandom } from './thread-ports.ts';
import { report, reportFailure, type Duty } from './worker-port.ts';

interface Progress {
  server?: FaultServer;
  /** What holds keys. */
  readonly wipe: Disposable[];
}

async function serve(setup: FaultServerSetup, progress: Progress): Promise<void> {
  const { migrationId, channel, suite: suiteName, silenceMs } = setup;
  const keys = DirectionKeys.receive(setup.keys);
  const demandKeys = DirectionKeys.receive(setup.demandKeys);
  progress.wipe.push(keys, demandKeys);
  const carrier = await connectDataChannel({
    ...setup,
    join: { migrationId, channel, key: keys.join },
    clock: threadClock,
    random: threadRandom,
    highWaterMark: CHANNEL_QUEUE_BYTES_MAX,
  });
  const isNative = carrier.engine === 'native';
  const common = {
    suite: SUITES[suiteName],
    channel,
    ciphers: isNative ? nativeCiphers : portableCiphers,
  };
  const sealer = new Sealer({ ...common, keys });
  const opener = new Opener({ ...common, keys: demandKeys });
  progress.wipe.push(sealer, opener);
  const { encodings } = setup;
  const order = viewPushOrder(setup.exchange);
  const absent = setup.hearsAbsent
    ? {
        bitmap: viewExchange(setup.exchange).dirty.bytes,
        heard: () => report({ kind: 'absentHeard' }),
      }
    : undefined;
  const ram = new RamFile(setup.ramPath, setup.exchange.ramBytes);
  if (isNative) {
    const { link } = carrier;
    progress.wipe.push(link);
    const clock = threadClock;
    const writer = new BlockingWriter(link, silenceMs, clock);
    const server = new FaultServer({ sealer, writer, encodings, ram, order, absent });
    progress.server = server;
    report({ kind: 'joined', fd: link.fd });
    const reader = new BlockingReader({ link, opener, sink: server, silenceMs, clock, heard });
    for (;;) {
      await reader.next();
      await server.answered;
    }
  }
  const { socket } = carrier;
  const writer = new RecordWriter(socket, silenceMs, reportFailure, (bytes) => push(bytes));
  const server = new FaultServer({ sealer, writer, encodings, ram, order, absent });
  progress.server = server;
  const reader = new RecordReader(opener, server);
  const push = (bytes: Uint8Array): void => {
    try {
      reader.push(bytes);
      // Who asks for more than he takes is not listened to meanwhile.
      socket.pause();
      server.answered.then(() => socket.resume(), reportFailure);
    } catch (thrown) {
      writer.fail(MigError.from(thrown));
    }
  };
  report({ kind: 'joined', fd: null });
}

export function runFaultServer(setup: FaultServerSetup): Duty {
  const progress: Progress = { wipe: [] };
  serve(setup, progress).catch(reportFailure);
  return {
    reckon: () => progress.server?.extent ?? NO_EXTENT,
    wipe: () => progress.wipe.forEach((each) => each[Symbol.dispose]()),
    obey: (command) =>
      Promise.reject(new MigError('INTERNAL', `${command.kind}: a command for another`)),
  };
}

/** Whoever reads here waits for nothing in particular. */
const heard = (): void => undefined;
