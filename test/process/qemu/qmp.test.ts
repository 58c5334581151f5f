/** The client of a monitor against a real QEMU, which has no guest. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'tap';
import { z } from 'zod';
import { QmpClient } from '../../../src/guest/qemu/qmp.ts';
import type { QmpEvent } from '../../../src/guest/qemu/qmp-messages.ts';
import { guestToolsMissing } from '../../qemu/guest-image.ts';
import { Program } from '../program.ts';

const LIMIT_MS = 20_000;
const SILENT_MS = 20;

const emptySchema = z.object({});
const statusSchema = z.object({ status: z.string() });

/** A QEMU in a folder of its own, with its monitor's socket listening. */
async function qemu(): Promise<AsyncDisposable & { program: Program; socket: string }> {
  const dir = mkdtempSync(path.join(tmpdir(), 'migd-'));
  const socket = path.join(dir, 'qmp.sock');
  const program = new Program(
    ['qemu-system-x86_64', '-machine', 'none', '-nodefaults', '-display', 'none'].concat([
      '-qmp',
      `unix:${socket},server=on,wait=on`,
    ]),
    { cwd: dir },
  );
  await program.complained(/waiting for connection/);
  return {
    program,
    socket,
    async [Symbol.asyncDispose]() {
      await program[Symbol.asyncDispose]();
      rmSync(dir, { recursive: true });
    },
  };
}

const heard = (client: QmpClient, name: string): Promise<QmpEvent> =>
  new Promise((resolve) => {
    const stop = client.events.listen((event) => {
      if (event.event !== name) return;
      stop();
      resolve(event);
    });
  });

void test('a real QEMU', { skip: guestToolsMissing() }, async (t) => {
  await using one = await qemu();
  const client = await QmpClient.connect(one.socket, LIMIT_MS);
  t.ok(client.version.major >= 7);
  t.same(await client.execute('query-status', {}, statusSchema), { status: 'running' });

  const stopped = heard(client, 'STOP');
  await client.execute('stop', {}, emptySchema);
  await stopped;
  t.same(await client.execute('query-status', {}, statusSchema), { status: 'paused' });

  await t.rejects(client.execute('fly', {}, emptySchema), {
    code: 'GUEST_FAILED',
    detail: /^QMP: fly: .*not been found/,
  });
  await t.rejects(client.execute('device_del', { id: 'none' }, emptySchema), {
    code: 'GUEST_FAILED',
    detail: /none/,
  });

  await t.rejects(QmpClient.connect(one.socket, SILENT_MS), { code: 'GUEST_SILENT' });

  one.program.signal('SIGSTOP');
  await t.rejects(client.execute('query-status', {}, statusSchema, SILENT_MS), {
    code: 'GUEST_SILENT',
  });
  one.program.signal('SIGCONT');
  t.same(await client.execute('query-status', {}, statusSchema), { status: 'paused' });

  client.close();
  const next = await QmpClient.connect(one.socket, LIMIT_MS);
  const gone = once(next.gone, 'abort');
  const answer = next.execute('query-status', {}, statusSchema);
  one.program.signal('SIGKILL');
  await answer.catch(() => undefined);
  await gone;
  await t.rejects(next.execute('query-status', {}, statusSchema), { code: 'GUEST_FAILED' });
});
