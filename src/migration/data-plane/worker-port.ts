/** A worker's end of the conversation with the main thread, and how it ends. */
import { parentPort, type MessagePort } from 'node:worker_threads';
import { assert } from '../../base/assert.ts';
import { MigError } from '../../protocol/error.ts';
import type { Command, Report } from './messages.ts';

function port(): MessagePort {
  assert(parentPort !== null, 'a worker module outside a worker');
  return parentPort;
}

export const report = (message: Report): void => port().postMessage(message, []);

/** Reports whatever was thrown; the main thread decides what follows. */
export function reportFailure(thrown: unknown): void {
  const { code, detail } = MigError.from(thrown);
  report({ kind: 'failed', code, detail });
}

/**
 * Takes commands. `close` wipes what `wipe` wipes and ends the thread at once: the memory is mapped
 * by the main thread, which unmaps it when this thread is gone.
 */
export function listenToMain(
  obey: (command: Exclude<Command, { kind: 'close' }>) => Promise<void> | undefined,
  wipe: () => void,
): void {
  port().on('message', (command: Command) => {
    if (command.kind === 'close') {
      wipe();
      process.exit();
    }
    obey(command)?.catch(reportFailure);
  });
}
