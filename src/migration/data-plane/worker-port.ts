/** A worker's end of the conversation with the main thread. */
import { parentPort, type MessagePort } from 'node:worker_threads';
import { assert } from '../../base/assert.ts';
import { MigError } from '../../protocol/error.ts';
import type { Command, Extent, Report } from './messages.ts';

/** What a thread does for one channel. */
export interface Duty {
  readonly obey: (command: Exclude<Command, { kind: 'close' }>) => Promise<void>;
  /** How far a round came on this channel; null when it is past that. */
  readonly reckon: (round: number) => Extent | null;
  /** Wipes the keys. */
  readonly wipe: () => void;
}

export function mainPort(): MessagePort {
  assert(parentPort !== null, 'a worker module outside a worker');
  return parentPort;
}

export const report = (message: Report): void => mainPort().postMessage(message, []);

/** Reports whatever was thrown; the main thread decides what follows. */
export function reportFailure(thrown: unknown): void {
  const { code, detail } = MigError.from(thrown);
  report({ kind: 'failed', code, detail });
}
