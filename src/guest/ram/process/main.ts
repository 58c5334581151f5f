/**
 * The process of an embedded guest, `main.ts SCRATCH_FOLDER`. It is started ahead, by a daemon that
 * does not know yet for which VM. One line on its standard input, the path of its configuration,
 * makes it that VM's; it says on descriptor 3 that it is ready (or why not), and from then on lives
 * on its own. When the input ends before, so does the process: a daemon that is gone leaves no spare
 * behind, and no guest that it does not know of.
 */
import { closeSync, readFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { redirectOutput } from '../../../native/descriptors.ts';
import { MigError } from '../../../protocol/error.ts';
import { guestConfigSchema, type GuestConfig } from '../agent-protocol.ts';
import { serveAgent } from './agent.ts';
import { assemble } from './assemble.ts';
import { rehearse } from './rehearsal.ts';
import { VcpuThreads } from './vcpu-threads.ts';

const READY_FD = 3;

interface Assignment {
  /** The path that the daemon writes. */
  readonly file: Promise<string>;
  isThere: boolean;
  /** Carried out: until then the process ends with its input. */
  isDone: boolean;
}

function assignment(): Assignment {
  const come = Promise.withResolvers<string>();
  const order = { file: come.promise, isThere: false, isDone: false };
  let text = '';
  process.stdin.setEncoding('utf8');
  process.stdin.on('data', (chunk: string) => {
    text += chunk;
    const end = text.indexOf('\n');
    if (end < 0 || order.isThere) return;
    order.isThere = true;
    come.resolve(text.slice(0, end));
  });
  process.stdin.on('end', () => {
    if (!order.isDone) process.exit(0);
  });
  return order;
}

function failed(detail: string): never {
  console.error(JSON.stringify({ level: 'error', msg: detail }));
  process.exit(1);
}

async function start(config: GuestConfig, threads: VcpuThreads): Promise<void> {
  redirectOutput(config.logPath);
  // By this the daemon knows the process again: see guest-process.ts.
  process.chdir(config.memoryDir);
  // What an operator sees in a list of processes.
  process.title = `migd guest ${config.name}`;
  const { machine } = assemble(config, () => threads.take());
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

const [, , scratchDir = ''] = process.argv;
process.title = 'migd spare guest';
const order = assignment();
const threads = new VcpuThreads();
// What was written already is read before the second turn of the event loop.
await new Promise((resolve) => {
  setTimeout(resolve, 0);
});
if (!order.isThere) await rehearse(scratchDir);
try {
  const file = await order.file;
  await start(guestConfigSchema.parse(JSON.parse(readFileSync(file, 'utf8'))), threads);
  order.isDone = true;
  say({ ready: true });
} catch (thrown) {
  const { code, detail } = MigError.from(thrown, 'GUEST_FAILED');
  say({ code, detail });
  process.exit(1);
}
