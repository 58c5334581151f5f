/**
 * The `kv` workload: serves the store over TCP on loopback, one command a line.
 *
 *     SET key value → OK          GET key → VALUE value | NONE
 *     DEL key → OK | NONE         PING → PONG
 *
 * A SET is in RAM before its OK is written. A pause falls between two lines; clients just wait.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { PAGE_BYTES } from '../../base/units.ts';
import { KEY_BYTES_MAX, KvStore, VALUE_BYTES_MAX } from './kv-store.ts';
import { RUN } from './shared.ts';
import type { VcpuContext } from './vcpu-context.ts';
import { tell } from './vcpu-word.ts';

const LINE_BYTES_MAX = 4096;
const TICK_MS = 20;

/** Serves until told to stop. Posts `{kvAddress}` once it listens. */
export function serveKv(context: VcpuContext, port: number): void {
  const { kvFirst, kvPages } = context.input.layout;
  const from = kvFirst * PAGE_BYTES;
  const store = new KvStore(context.bytes.subarray(from, from + kvPages * PAGE_BYTES));
  const wrote = (at: number | undefined): boolean => {
    if (at === undefined) return false;
    context.set('writes', context.get('writes') + 1);
    context.set('versionSum', context.get('versionSum') + 1);
    context.wrote(kvFirst + Math.floor(at / PAGE_BYTES));
    return true;
  };

  const answer = (line: string): string => {
    const [command = '', key = '', ...rest] = line.split(' ');
    const value = rest.join(' ');
    if (command === 'PING') return 'PONG';
    if (key === '' || Buffer.byteLength(key) > KEY_BYTES_MAX) return 'ERR key';
    switch (command) {
      case 'GET': {
        const found = store.get(key);
        return found === undefined ? 'NONE' : `VALUE ${found}`;
      }
      case 'SET':
        if (Buffer.byteLength(value) > VALUE_BYTES_MAX) return 'ERR value';
        return wrote(store.set(key, value)) ? 'OK' : 'ERR full';
      case 'DEL':
        return wrote(store.delete(key)) ? 'OK' : 'NONE';
      default:
        return 'ERR command';
    }
  };

  const server = createServer((socket) => serveClient(socket, answer));
  server.on('error', (error) => tell({ kind: 'failed', detail: `kv: ${error.message}` }));
  server.listen(port, '127.0.0.1', () => {
    const address = server.address();
    if (typeof address === 'object' && address !== null) {
      tell({ kind: 'serving', address: `127.0.0.1:${address.port}` });
    }
  });
  keepTime(context);
  void obey(context, server);
}

function serveClient(socket: Socket, answer: (line: string) => string): void {
  let pending = '';
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => {
    pending += text;
    const lines = pending.split('\n');
    pending = lines.pop() ?? '';
    if (pending.length > LINE_BYTES_MAX) socket.destroy();
    const answers = lines.map((line) => `${answer(line.trimEnd())}\n`);
    if (answers.length > 0) socket.write(answers.join(''));
  });
  socket.on('error', () => socket.destroy());
}

/** Virtual time goes on while the guest runs; throttled, it serves nobody for its share of the time. */
function keepTime(context: VcpuContext): void {
  let before = performance.now();
  setInterval(() => {
    const now = performance.now();
    const ms = Math.min(now - before, 5 * TICK_MS);
    context.tick(ms);
    context.hold(ms);
    before = performance.now();
  }, TICK_MS);
}

/** Parks the whole thread, event loop and all, when a pause is commanded. */
async function obey(context: VcpuContext, server: Server): Promise<void> {
  for (;;) {
    await context.control.commanded();
    if (context.control.command !== RUN && !context.control.park(context.input.vcpu)) break;
  }
  server.close();
  process.exit();
}
