/** Entry of a sender's worker thread: joins one channel, then sends as it is told. */
import { workerData } from 'node:worker_threads';
import { CHANNEL_QUEUE_BYTES_MAX } from '../../base/limits.ts';
import { DirectionKeys } from '../../crypto/key-schedule.ts';
import { Sealer } from '../../crypto/sealer.ts';
import { SUITES } from '../../crypto/suites.ts';
import { connectDataChannel } from '../../transport/data-channel.ts';
import { viewGuestMemory } from './guest-memory.ts';
import { digestShare } from './memory-digest.ts';
import type { SenderSetup } from './messages.ts';
import { Pacer } from './pacer.ts';
import { RecordWriter } from './record-writer.ts';
import { Sending } from './sending.ts';
import { threadClock } from './thread-clock.ts';
import { listenToMain, report, reportFailure } from './worker-port.ts';

const setup = workerData as SenderSetup;
const { channel } = setup;
const keys = DirectionKeys.receive(setup.keys);
const memory = viewGuestMemory(setup.memory);
const share = { index: channel, of: setup.channels };
const pacer = new Pacer(threadClock);

async function join(): Promise<Sending> {
  const { host, port, identity, expected, migrationId } = setup;
  const socket = await connectDataChannel({
    host,
    port,
    identity,
    expected,
    join: { migrationId, channel, key: keys.join },
    clock: threadClock,
    highWaterMark: CHANNEL_QUEUE_BYTES_MAX,
  });
  const sealer = new Sealer({ suite: SUITES[setup.suite], keys, channel });
  const writer = new RecordWriter(socket, reportFailure);
  report({ kind: 'joined' });
  return new Sending({ sealer, writer, pacer, memory, share, report });
}

const joined = join();
joined.catch(reportFailure);

listenToMain(
  async (command) => {
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
      case 'digest':
        report({ kind: 'digest', blocks: await digestShare(memory.ram, share) });
    }
  },
  () => keys[Symbol.dispose](),
);
