/**
 * The destination's thread of the channel on which pages are asked for: listens for it, and when the guest
 * is about to run waits for its faults and for the pages that it asked for, both at once.
 */
import { setImmediate } from 'node:timers/promises';
import { DirectionKeys } from '../../crypto/key-schedule.ts';
import { Opener } from '../../crypto/opener.ts';
import { Sealer } from '../../crypto/sealer.ts';
import { SUITES } from '../../crypto/suites.ts';
import { fetchDescriptor } from '../../native/descriptor-passing.ts';
import { PageFaults } from '../../native/page-trap.ts';
import { nativeCiphers } from '../../native/record-cipher.ts';
import type { BlockingLink } from '../../native/sockets.ts';
import { LatePages } from '../../pages/late-pages.ts';
import { MigError } from '../../protocol/error.ts';
import type { FaultCounts } from '../../protocol/messages.ts';
import { listenDataChannel } from '../../transport/data-channel.ts';
import { BlockingReader } from './blocking-reader.ts';
import { BlockingWriter } from './blocking-writer.ts';
import { viewAbsence, viewExchange } from './exchange-mapping.ts';
import { FaultHandler } from './fault-handler.ts';
import { NO_EXTENT, type FaultHandlerSetup } from './messages.ts';
import { RamFile } from './ram-file.ts';
import { threadClock, threadRandom } from './thread-ports.ts';
import { report, reportFailure, type Duty } from './worker-port.ts';

/** Between two looks at what else the thread has to do. */
const SLICE_MS = 25;
/** While a page that was asked for is being placed by another thread. */
const SETTLE_MS = 1;

const NO_FAULTS: FaultCounts = {
  network: 0,
  minor: 0,
  latencyMs: { mean: 0, p99: 0, max: 0 },
};

interface Channel {
  readonly link: BlockingLink;
  readonly opener: Opener;
  readonly sealer: Sealer;
}

interface Progress {
  handler?: FaultHandler;
  /** What holds keys. */
  readonly wipe: Disposable[];
}

async function join(setup: FaultHandlerSetup, progress: Progress): Promise<Channel> {
  const { migrationId, channel, suite: suiteName } = setup;
  const keys = DirectionKeys.receive(setup.keys);
  const demandKeys = DirectionKeys.receive(setup.demandKeys);
  progress.wipe.push(keys, demandKeys);
  const listener = await listenDataChannel({
    ...setup,
    join: { migrationId, channel, key: keys.join },
    clock: threadClock,
    random: threadRandom,
  });
  report({ kind: 'listening', port: listener.port });
  const carrier = await listener.joined;
  if (carrier.engine !== 'native') throw new MigError('INTERNAL', 'faults need the native engine');
  const { link } = carrier;
  const common = { suite: SUITES[suiteName], channel, ciphers: nativeCiphers };
  const opener = new Opener({ ...common, keys });
  const sealer = new Sealer({ ...common, keys: demandKeys });
  progress.wipe.push(opener, sealer, link);
  report({ kind: 'joined', fd: link.fd });
  return { link, opener, sealer };
}

/** Until the channel is closed. */
async function answer(
  setup: FaultHandlerSetup,
  { link, opener, sealer }: Channel,
  path: string,
  progress: Progress,
): Promise<never> {
  const { silenceMs, exchange } = setup;
  const clock = threadClock;
  const trap = fetchDescriptor(path);
  report({ kind: 'answering', fd: trap.fd });
  const [address] = new BigUint64Array(Uint8Array.from(trap.note).buffer);
  const faults = new PageFaults(trap.fd, {
    address: address ?? 0n,
    byteLength: exchange.ramBytes,
  });
  const absence = viewAbsence(exchange);
  const ram = new RamFile(setup.ramPath, exchange.ramBytes);
  const handler = new FaultHandler({
    faults,
    sealer,
    writer: new BlockingWriter(link, silenceMs, clock),
    late: new LatePages(ram, absence, () => report({ kind: 'whole' })),
    encodings: setup.encodings,
    absent: absence.absent,
    clock,
  });
  progress.handler = handler;
  if (setup.tellsAbsent) await handler.tellAbsent(viewExchange(exchange).dirty.bytes);
  const reader = new BlockingReader({ link, opener, sink: handler, silenceMs, clock, heard });
  let lookedAt = clock.now();
  for (;;) {
    const ready = faults.wait(link.fd, handler.isWaiting ? SETTLE_MS : SLICE_MS);
    if (ready.faults) await handler.take();
    if (ready.other || link.holdsBytes) await reader.next();
    handler.settle();
    if (clock.now() - lookedAt < SLICE_MS) continue;
    await setImmediate();
    lookedAt = clock.now();
  }
}

export function runFaultHandler(setup: FaultHandlerSetup): Duty {
  const progress: Progress = { wipe: [] };
  const joined = join(setup, progress);
  joined.catch(reportFailure);
  return {
    reckon: () => NO_EXTENT,
    wipe: () => progress.wipe.forEach((each) => each[Symbol.dispose]()),
    obey: async (command) => {
      if (command.kind === 'answer') {
        await answer(setup, await joined, command.path, progress).catch((thrown: unknown) => {
          // What there is to tell is told before nobody listens any more.
          report({ kind: 'faults', faults: progress.handler?.counts ?? NO_FAULTS });
          throw thrown;
        });
      }
      if (command.kind !== 'count') {
        throw new MigError('INTERNAL', `${command.kind}: a command for another`);
      }
      report({ kind: 'faults', faults: progress.handler?.counts ?? NO_FAULTS });
    },
  };
}

/** Whoever reads here waits for nothing in particular. */
const heard = (): void => undefined;
