/** The daemon's end of a guest's socket against guests that answer wrongly, late or not at all. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as fc from 'fast-check';
import { test } from 'tap';
import { AGENT_FRAME_BYTES_MAX, encodeFrame } from '../../../../src/guest/ram/agent-protocol.ts';
import { AgentClient } from '../../../../src/guest/ram/client.ts';

/** A guest whose answer to each request is what `answer` writes. */
async function forged(
  answer: (socket: Socket) => void,
): Promise<AsyncDisposable & { path: string }> {
  const dir = mkdtempSync(path.join(tmpdir(), 'migd-'));
  const at = path.join(dir, 's');
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', () => answer(socket));
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

/** The code with which a status request ends when it is answered so. */
async function outcome(answer: (socket: Socket) => void): Promise<string> {
  await using guest = await forged(answer);
  const client = await AgentClient.connect(guest.path, 2000);
  try {
    await client.request({ op: 'status' });
    return 'accepted';
  } catch (thrown) {
    return (thrown as { code?: string }).code ?? `uncoded ${String(thrown)}`;
  } finally {
    client.close();
  }
}

const STATUS = {
  state: 'running',
  pid: 1,
  dirtyTracking: 'uffd',
  registers: { writes: 1, versionSum: 1, runMs: 0.5 },
  kvAddress: null,
  pcrs: { 0: 'ab'.repeat(32) },
  throttlePercent: 0,
};

const answering = (changed: object): object => ({ id: 1, result: { ...STATUS, ...changed } });

void test('an honest answer is heard', async (t) => {
  t.equal(await outcome((socket) => socket.write(encodeFrame(answering({})))), 'accepted');
});

void test('a guest that answers what it may not is not heard', async (t) => {
  const wrong: Record<string, unknown> = {
    'no answer': null,
    text: 'ok',
    'no id': { result: STATUS },
    'both result and error': { ...answering({}), error: { code: 'VM_STATE', detail: '' } },
    'one field more': answering({ more: 1 }),
    'another state': answering({ state: 'flying' }),
    'a negative number': answering({ pid: -1 }),
    'an address elsewhere': answering({ kvAddress: '192.0.2.1:80' }),
    'a long digest': answering({ pcrs: { 0: 'ab'.repeat(33) } }),
    'nothing at all': { id: 1, result: undefined },
    'a long detail': { id: 1, error: { code: 'VM_STATE', detail: 'x'.repeat(1001) } },
  };
  for (const [what, reply] of Object.entries(wrong)) {
    t.equal(await outcome((socket) => socket.write(encodeFrame(reply))), 'GUEST_FAILED', what);
  }
});

void test('frames that are none, too long, cut, or never end', async (t) => {
  const tooLong = Buffer.alloc(4);
  tooLong.writeUInt32BE(AGENT_FRAME_BYTES_MAX + 1);
  t.equal(await outcome((socket) => socket.write(tooLong)), 'GUEST_FAILED', 'too long');
  const cut = encodeFrame(answering({})).subarray(0, -1);
  t.equal(await outcome((socket) => socket.end(cut)), 'GUEST_FAILED', 'cut');
  t.equal(await outcome((socket) => socket.destroy()), 'GUEST_FAILED', 'gone');
});

void test('random bytes never do more than end the conversation', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 40 }), async (bytes) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      const code = await outcome((socket) => socket.end(Buffer.concat([length, bytes])));
      if (code !== 'GUEST_FAILED') throw new Error(code);
    }),
    { numRuns: 50 },
  );
});

const refusing = (code: string) => (socket: Socket) =>
  void socket.write(encodeFrame({ id: 1, error: { code, detail: 'so' } }));

void test('a coded refusal is handed on, an unknown code becomes GUEST_FAILED', async (t) => {
  t.equal(await outcome(refusing('VM_STATE')), 'VM_STATE');
  t.equal(await outcome(refusing('NO_SUCH_CODE')), 'GUEST_FAILED');
});

void test('a guest that says nothing is silent after the limit, and its late answer harms nothing', async (t) => {
  const asked: Socket[] = [];
  await using guest = await forged((socket) => asked.push(socket));
  const client = await AgentClient.connect(guest.path, 200);
  await t.rejects(client.request({ op: 'status' }), { code: 'GUEST_SILENT', detail: 'status' });
  const second = client.request({ op: 'pause' });
  asked[0]?.write(encodeFrame(answering({})));
  asked[0]?.write(encodeFrame({ id: 2, result: {} }));
  t.same(await second, {});
  client.close();
});

void test('nobody there; and requests after the end', async (t) => {
  await t.rejects(AgentClient.connect(path.join(tmpdir(), 'migd-nobody')), {
    code: 'GUEST_FAILED',
  });
  await using guest = await forged(() => undefined);
  const client = await AgentClient.connect(guest.path);
  const pending = client.request({ op: 'status' });
  client.close();
  await t.rejects(pending, { code: 'GUEST_FAILED' });
  await t.rejects(client.request({ op: 'status' }), { code: 'GUEST_FAILED' });
});
