/** A monitor for tests: what it says when somebody connects, and to each line that it is told. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';

export const GREETING =
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "x"}, "capabilities": ["oob"]}}\r\n';

export interface Told {
  readonly execute: string;
  readonly id: number;
}

export interface Monitor extends AsyncDisposable {
  readonly path: string;
}

/** `answer` gets every command but the negotiation, which is answered as it should be. */
export async function monitor(
  answer: (told: Told, socket: Socket) => void,
  greet: (socket: Socket) => void = (socket) => void socket.write(GREETING),
): Promise<Monitor> {
  const dir = mkdtempSync(path.join(tmpdir(), 'migd-'));
  const at = path.join(dir, 'qmp.sock');
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    greet(socket);
    createInterface({ input: socket }).on('line', (line) => {
      const told = JSON.parse(line) as Told;
      if (told.execute === 'qmp_capabilities') socket.write(`{"return": {}, "id": ${told.id}}\r\n`);
      else answer(told, socket);
    });
  });
  server.listen(at);
  await once(server, 'listening');
  return {
    path: at,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
      rmSync(dir, { recursive: true });
    },
  };
}
