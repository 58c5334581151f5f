/** Serves a guest's Unix socket: each request is checked, done one after the other, and answered. */
import { chmodSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { GUEST_DETAIL_CHARS_MAX } from '../../../base/limits.ts';
import { MigError } from '../../../protocol/error.ts';
import {
  agentRequestSchema,
  encodeFrame,
  FrameDecoder,
  type AgentRequest,
} from '../agent-protocol.ts';
import type { Machine } from './machine.ts';

/** Listens on `path`; `quit` ends the process. */
export function serveAgent(machine: Machine, path: string, quit: () => void): Promise<Server> {
  // A request that stands the guest still must not meet one that starts it: one at a time.
  let turn: Promise<unknown> = Promise.resolve();

  const answer = async (frame: unknown, socket: Socket): Promise<void> => {
    const reply = await answerTo(machine, frame, quit);
    if (reply === undefined) socket.destroy();
    else socket.write(encodeFrame(reply));
  };

  const server = createServer((socket) => {
    const decoder = new FrameDecoder();
    socket.on('error', () => socket.destroy());
    socket.on('data', (bytes) => {
      try {
        for (const frame of decoder.push(bytes)) turn = turn.then(() => answer(frame, socket));
      } catch {
        socket.destroy();
      }
    });
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      chmodSync(path, 0o600);
      resolve(server);
    });
  });
}

/** The reply to one frame; undefined when it is no request. Never throws. */
export async function answerTo(
  machine: Machine,
  frame: unknown,
  quit: () => void,
): Promise<object | undefined> {
  const parsed = agentRequestSchema.safeParse(frame);
  if (!parsed.success) return undefined;
  const { id } = parsed.data;
  try {
    return { id, result: await perform(machine, parsed.data, quit) };
  } catch (thrown) {
    const { code, detail } = MigError.from(thrown, 'GUEST_FAILED');
    return { id, error: { code, detail: detail.slice(0, GUEST_DETAIL_CHARS_MAX) } };
  }
}

async function perform(
  machine: Machine,
  request: AgentRequest,
  quit: () => void,
): Promise<unknown> {
  switch (request.op) {
    case 'describe':
      return machine.describe();
    case 'status':
      return machine.status();
    case 'trackDirty':
      machine.trackDirty();
      return {};
    case 'collectDirty':
      return machine.collectDirty(request.into);
    case 'untrackDirty':
      machine.untrackDirty();
      return {};
    case 'pause':
      await machine.standStill('paused');
      return {};
    case 'hold':
      await machine.standStill('held');
      return {};
    case 'halt':
      machine.halt();
      return {};
    case 'trapAbsent':
      await machine.trapAbsent();
      return {};
    case 'untrap':
      machine.untrap();
      return {};
    case 'resume':
      await machine.resume();
      return {};
    case 'throttle':
      machine.throttle(request.percent);
      return {};
    case 'exportState':
      return machine.exportState();
    case 'importState':
      machine.importState();
      return {};
    case 'check':
      return machine.check();
    case 'vtpm':
      return machine.vtpm(request.command);
    case 'quit':
      setImmediate(quit);
      return {};
  }
}
