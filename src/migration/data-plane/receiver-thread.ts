/** A receiver's worker thread: listens for one channel, then receives until its end. */
import type { TLSSocket } from 'node:tls';
import { assert } from '../../base/assert.ts';
import { CHANNEL_SILENCE_MS_MAX } from '../../base/limits.ts';
import { DirectionKeys } from '../../crypto/key-schedule.ts';
import { Opener } from '../../crypto/opener.ts';
import { SUITES } from '../../crypto/suites.ts';
import { MigError } from '../../protocol/error.ts';
import { listenDataChannel } from '../../transport/data-channel.ts';
import { viewGuestMemory, type GuestMemory } from './guest-memory.ts';
import { digestShare } from './memory-digest.ts';
import { RamFile } from './ram-file.ts';
import type { ReceiverSetup } from './messages.ts';
import { Receiving } from './receiving.ts';
import { RecordReader } from './record-reader.ts';
import { threadClock } from './thread-clock.ts';
import { report, reportFailure, type Duty } from './worker-port.ts';

async function receive(
  setup: ReceiverSetup,
  keys: DirectionKeys,
  memory: GuestMemory,
): Promise<void> {
  const { address, ports, identity, expected, migrationId, channel } = setup;
  const listener = await listenDataChannel({
    address,
    ports,
    identity,
    expected,
    join: { migrationId, channel, key: keys.join },
    clock: threadClock,
  });
  report({ kind: 'listening', port: listener.port });
  const socket = await listener.joined;
  report({ kind: 'joined' });
  const opener = new Opener({ suite: SUITES[setup.suite], keys, channel });
  const region = new RamFile(setup.ramPath, memory.ram.length);
  const receiving = new Receiving({ channel, opener, region, state: memory.state, report });
  readAll(socket, new RecordReader(opener, receiving), receiving);
}

/** Everything that ends the socket before the end record was accepted is a failure. */
function readAll(socket: TLSSocket, reader: RecordReader, receiving: Receiving): void {
  let isOver = false;
  const fail = (error: MigError): void => {
    if (isOver) return;
    isOver = true;
    socket.destroy();
    reportFailure(error);
  };
  const lost = (detail: string): void => {
    if (!receiving.isEnded) fail(new MigError('CHANNEL_LOST', detail));
  };
  socket.on('data', (bytes: Buffer) => {
    if (isOver) return;
    try {
      reader.push(bytes);
    } catch (thrown) {
      fail(MigError.from(thrown));
    }
  });
  socket.setTimeout(CHANNEL_SILENCE_MS_MAX, () => {
    if (reader.isWithin) fail(new MigError('PEER_SILENT', 'in the middle of a record'));
  });
  socket.on('end', () => lost('ended before the end of the data'));
  socket.on('error', (error) => lost(error.message));
  socket.on('close', () => lost('closed before the end of the data'));
  socket.resume();
}

export function runReceiver(setup: ReceiverSetup): Duty {
  const keys = DirectionKeys.receive(setup.keys);
  const memory = viewGuestMemory(setup.memory);
  const share = { index: setup.channel, of: setup.channels };
  receive(setup, keys, memory).catch(reportFailure);
  return {
    wipe: () => keys[Symbol.dispose](),
    obey: async (command) => {
      assert(command.kind === 'digest', 'a command for a sender');
      report({ kind: 'digest', blocks: await digestShare(memory.ram, share) });
    },
  };
}
