/**
 * The process of an embedded guest. It is started by the daemon with the path of its configuration,
 * says on descriptor 3 that it is ready (or why not), and from then on lives on its own.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import path from 'node:path';
import type { Clock } from '../../../base/ports.ts';
import { PAGE_BYTES } from '../../../base/units.ts';
import { SharedMapping } from '../../../native/mapping.ts';
import { MigError } from '../../../protocol/error.ts';
import { exchangeLayout } from '../../exchange.ts';
import { guestConfigSchema, type GuestConfig } from '../agent-protocol.ts';
import { ramLayout } from '../layout.ts';
import { serveAgent } from './agent.ts';
import { Machine } from './machine.ts';

const READY_FD = 3;
const CHUNK_BYTES = 1024 * 1024;

const clock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after: (delayMs, fire) => {
    const timer = setTimeout(fire, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

function loadImage(config: GuestConfig, ram: Buffer): void {
  if (config.imagePath === null || config.start === 'incoming') return;
  const { imageFirst } = ramLayout(config.ramBytes, config.imageBytes, config.workload);
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

function failed(detail: string): never {
  console.error(JSON.stringify({ level: 'error', msg: detail }));
  process.exit(1);
}

async function start(config: GuestConfig): Promise<void> {
  const ram = SharedMapping.create(path.join(config.memoryDir, 'ram'), config.ramBytes);
  const { totalBytes } = exchangeLayout(config.ramBytes);
  const exchange = SharedMapping.create(path.join(config.memoryDir, 'exchange'), totalBytes);
  const view = ram.view();
  loadImage(config, Buffer.from(view));
  const machine = new Machine({
    config,
    clock,
    random: { bytes: (count) => randomBytes(count) },
    ram: { address: ram.address, view },
    exchange: exchange.view(),
  });
  // The mappings end with the process: threads may use them to the last moment.
  const quit = () => {
    machine.stop();
    process.exit(0);
  };
  process.on('SIGTERM', quit);
  await machine.boot(failed);
  await serveAgent(machine, path.join(config.memoryDir, 'agent.sock'), quit);
}

const say = (word: object) => {
  writeSync(READY_FD, JSON.stringify(word));
  closeSync(READY_FD);
};

try {
  const file = process.argv[2] ?? '';
  await start(guestConfigSchema.parse(JSON.parse(readFileSync(file, 'utf8'))));
  say({ ready: true });
} catch (thrown) {
  const { code, detail } = MigError.from(thrown, 'GUEST_FAILED');
  say({ code, detail });
  process.exit(1);
}
