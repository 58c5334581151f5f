/** Puts a guest together: its memory, the real clock and randomness, its machine. */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import path from 'node:path';
import type { Worker } from 'node:worker_threads';
import type { Clock } from '../../../base/ports.ts';
import { PAGE_BYTES } from '../../../base/units.ts';
import { SharedMapping } from '../../../native/mapping.ts';
import { MigError } from '../../../protocol/error.ts';
import { exchangeLayout } from '../../exchange.ts';
import type { GuestConfig } from '../agent-protocol.ts';
import { ramLayout, type RamLayout } from '../layout.ts';
import { Machine } from './machine.ts';

const CHUNK_BYTES = 1024 * 1024;

const clock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after: (delayMs, fire) => {
    const timer = setTimeout(fire, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

export interface Assembled extends Disposable {
  readonly machine: Machine;
}

/**
 * Makes the guest's files in its memory folder and its machine over them; nothing runs yet. Disposing
 * of it unmaps its memory: only where no thread was started; otherwise it ends with the process.
 * Throws DEST_CAPACITY, REQUEST_INVALID for an image that does not fit, NATIVE_FAILED.
 */
export function assemble(config: GuestConfig, vcpuThread: () => Worker): Assembled {
  const layout = ramLayout(config.ramBytes, config.imageBytes, config.workload);
  if (layout.dataFirst > layout.pages) {
    throw new MigError('REQUEST_INVALID', 'the image does not fit into the memory');
  }
  const ram = SharedMapping.create(path.join(config.memoryDir, 'ram'), config.ramBytes);
  const { totalBytes } = exchangeLayout(config.ramBytes);
  const exchange = SharedMapping.create(path.join(config.memoryDir, 'exchange'), totalBytes);
  const view = ram.view();
  if (config.start === 'new') loadImage(config, layout, Buffer.from(view));
  const machine = new Machine({
    config,
    clock,
    random: { bytes: (count) => randomBytes(count) },
    ram: { address: ram.address, view },
    exchange: exchange.view(),
    vcpuThread,
  });
  return {
    machine,
    [Symbol.dispose]() {
      machine.stop();
      ram[Symbol.dispose]();
      exchange[Symbol.dispose]();
    },
  };
}

function loadImage(config: GuestConfig, { imageFirst }: RamLayout, ram: Buffer): void {
  if (config.imagePath === null) return;
  const from = imageFirst * PAGE_BYTES;
  const fd = openSync(config.imagePath, 'r');
  for (let done = 0; done < config.imageBytes;) {
    const length = Math.min(CHUNK_BYTES, config.imageBytes - done);
    const read = readSync(fd, ram, from + done, length, done);
    if (read === 0) throw new MigError('REQUEST_INVALID', 'the image became shorter');
    done += read;
  }
  closeSync(fd);
}
