/** The client of a monitor against monitors that answer rightly, wrongly, late or not at all. */
import type { Socket } from 'node:net';
import * as fc from 'fast-check';
import { test } from 'tap';
import { z } from 'zod';
import { QMP_LINE_BYTES_MAX } from '../../../../src/base/limits.ts';
import { QmpClient } from '../../../../src/guest/qemu/qmp.ts';
import { LineDecoder } from '../../../../src/guest/qemu/qmp-messages.ts';
import { MigError } from '../../../../src/protocol/error.ts';
import { GREETING, monitor, type Told } from './monitor.ts';

/** Long enough for whatever is to be answered; what is to be silent has a shorter one. */
const LIMIT_MS = 10_000;
const SILENT_MS = 20;

const statusSchema = z.object({ status: z.string() });

const coded = (thrown: unknown): string =>
  thrown instanceof MigError ? `${thrown.code} ${thrown.detail}` : `uncoded ${String(thrown)}`;

/** How a command ends that is answered so. */
async function outcome(
  answer: (told: Told, socket: Socket) => void,
  limitMs = LIMIT_MS,
): Promise<unknown> {
  await using at = await monitor(answer);
  const client = await QmpClient.connect(at.path, LIMIT_MS);
  try {
    return await client.execute('query-status', {}, statusSchema, limitMs);
  } catch (thrown) {
    return coded(thrown);
  } finally {
    client.close();
  }
}

async function greeted(greet: (socket: Socket) => void, limitMs = LIMIT_MS): Promise<string> {
  await using at = await monitor(() => undefined, greet);
  return await QmpClient.connect(at.path, limitMs).then((client) => {
    client.close();
    return 'accepted';
  }, coded);
}

void test('greeting, negotiation, answers by their number, events', async (t) => {
  const waiting: Told[] = [];
  await using at = await monitor((told, socket) => {
    waiting.push(told);
    if (waiting.length < 2) return;
    socket.write('{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}\r\n');
    for (const { id } of waiting.toReversed()) {
      socket.write(`{"return": {"status": "n${id}", "more": 1}, "id": ${id}}\r\n`);
    }
  });
  const client = await QmpClient.connect(at.path, LIMIT_MS);
  const heard: string[] = [];
  client.events.listen(({ event }) => heard.push(event));
  t.match(client.version, { major: 7, minor: 2, micro: 22 });
  const both = [1, 2].map(() => client.execute('query-status', {}, statusSchema, LIMIT_MS));
  t.same(await Promise.all(both), [{ status: 'n2' }, { status: 'n3' }]);
  t.same(heard, ['STOP']);
  client.close();
  t.equal(client.gone.aborted, true);
  await t.rejects(client.execute('query-status', {}, statusSchema), { code: 'GUEST_FAILED' });
});

void test('what a monitor may not answer', async (t) => {
  const cases: Record<string, readonly [(id: number) => string, string]> = {
    'a refusal': [
      (id) => `{"error": {"class": "GenericError", "desc": "no, not now"}, "id": ${id}}`,
      'GUEST_FAILED QMP: query-status: no, not now',
    ],
    'another form': [
      (id) => `{"return": [], "id": ${id}}`,
      'GUEST_FAILED QMP: query-status: another form of answer',
    ],
    'no JSON': [() => '{"return": {', 'GUEST_FAILED QMP: a line is no JSON'],
    'neither answer nor event': [() => '{"id": 2}', 'GUEST_FAILED QMP: neither answer nor event'],
    'an answer to nobody': [() => '{"return": {}}', 'GUEST_FAILED QMP: neither answer nor event'],
    null: [() => 'null', 'GUEST_FAILED QMP: neither answer nor event'],
    'a long name of an event': [
      () => `{"event": "${'X'.repeat(65)}"}`,
      'GUEST_FAILED QMP: neither answer nor event',
    ],
  };
  for (const [name, [line, expected]] of Object.entries(cases)) {
    const got = await outcome(({ id }, socket) => void socket.write(`${line(id)}\r\n`));
    t.equal(got, expected, name);
  }
});

void test('a refusal may be long; what is told of it is not', async (t) => {
  const desc = 'x'.repeat(5000);
  const got = await outcome(
    ({ id }, socket) =>
      void socket.write(`{"error": {"class": "GenericError", "desc": "${desc}"}, "id": ${id}}\n`),
  );
  t.equal(String(got).length, 'GUEST_FAILED QMP: query-status: '.length + 1000);
});

/** An answer of so many bytes. */
const lineOf = (id: number, bytes: number): string => {
  const start = `{"id": ${id}, "return": {"status": "`;
  return `${start}${'x'.repeat(bytes - start.length - 3)}"}}`;
};

void test('a line at its limit, and one past it', async (t) => {
  const fits = await outcome(
    ({ id }, socket) => void socket.write(`${lineOf(id, QMP_LINE_BYTES_MAX)}\n`),
  );
  t.type(fits, 'object');
  const over = await outcome(
    ({ id }, socket) => void socket.write(`${lineOf(id, QMP_LINE_BYTES_MAX + 1)}\n`),
  );
  t.equal(over, 'GUEST_FAILED QMP: a line is longer than it may be');
});

void test('a monitor that is silent, or goes', async (t) => {
  t.equal(await outcome(() => undefined, SILENT_MS), 'GUEST_SILENT QMP: query-status');
  const gone = await outcome((_told, socket) => void socket.destroy());
  t.equal(gone, 'GUEST_FAILED QMP: the monitor is gone');
  t.equal(await greeted(() => undefined, SILENT_MS), 'GUEST_SILENT QMP: greeting');
  t.equal(await greeted((socket) => void socket.end()), 'GUEST_FAILED QMP: the monitor is gone');
  t.equal(
    await greeted((socket) => void socket.write('220 mail.example ESMTP\r\n')),
    'GUEST_FAILED QMP: a line is no JSON',
  );
  t.equal(
    await greeted((socket) => void socket.write('{"QMP": {}}\r\n')),
    'GUEST_FAILED QMP: no greeting',
  );
  t.equal(await greeted((socket) => void socket.write(GREETING)), 'accepted');
  await t.rejects(QmpClient.connect('/nowhere/qmp.sock'), { code: 'GUEST_FAILED' });
});

void test('an answer past its limit is nobody’s', async (t) => {
  let late: Told | undefined;
  await using at = await monitor((told, socket) => {
    if (late !== undefined) {
      socket.write(`{"return": {"status": "late"}, "id": ${late.id}}\n`);
      socket.write(`{"return": {"status": "new"}, "id": ${told.id}}\n`);
    }
    late = told;
  });
  const client = await QmpClient.connect(at.path, LIMIT_MS);
  await t.rejects(client.execute('query-status', {}, statusSchema, SILENT_MS), {
    code: 'GUEST_SILENT',
  });
  t.same(await client.execute('query-status', {}, statusSchema, LIMIT_MS), { status: 'new' });
  client.close();
});

void test('lines are the same however they come', (t) => {
  const values = fc.array(fc.jsonValue(), { maxLength: 6 });
  fc.assert(
    fc.property(values, fc.infiniteStream(fc.integer({ min: 1, max: 9 })), (lines, sizes) => {
      const bytes = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\r\n`).join(''));
      const decoder = new LineDecoder();
      const got: unknown[] = [];
      for (let at = 0; at < bytes.length;) {
        const size = sizes.next().value;
        got.push(...decoder.push(bytes.subarray(at, at + size)));
        at += size;
      }
      return JSON.stringify(got) === JSON.stringify(lines);
    }),
  );
  t.end();
});
