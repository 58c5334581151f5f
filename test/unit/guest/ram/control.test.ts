/** Pausing vCPUs: an acknowledgement belongs to one pause; after it nothing moves. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import tap, { test } from 'tap';
import { Control, PAUSE, RUN, STOP, TpmMailbox } from '../../../../src/guest/ram/shared.ts';

const PAUSES = 2000;

// Waiting for shared memory keeps no process alive; in a guest its socket does.
const alive = setInterval(() => undefined, 1000);
tap.teardown(() => clearInterval(alive));

void test('no count after an acknowledged pause, however soon the next one comes', async (t) => {
  const control = new Control();
  const counter = new Int32Array(new SharedArrayBuffer(4));
  const vcpu = new Worker(new URL('parking-vcpu.ts', import.meta.url), {
    workerData: { control: control.buffer, counter },
  });
  const exited = once(vcpu, 'exit');
  let moved = 0;
  for (let i = 0; i < PAUSES; i += 1) {
    control.command = PAUSE;
    if (!(await control.acknowledged(0, 10_000))) t.fail('not acknowledged');
    const before = Atomics.load(counter, 0);
    // Long enough for a vCPU that had not really stopped to be seen.
    for (let spin = 0; spin < 2000; spin += 1) Atomics.load(counter, 0);
    if (Atomics.load(counter, 0) !== before) moved += 1;
    control.command = RUN;
  }
  control.command = STOP;
  await exited;
  t.equal(moved, 0);
  t.ok(Atomics.load(counter, 0) > 0, 'it ran in between');
});

void test('an old acknowledgement does not count for a new pause', async (t) => {
  const control = new Control();
  control.command = PAUSE;
  const words = new Int32Array(control.buffer);
  const acknowledgement = words.length - 1;
  const vcpu = acknowledgement - 8;
  words[acknowledgement] = words[0] ?? 0;
  t.equal(await control.acknowledged(vcpu, 0), true);
  control.command = RUN;
  control.command = PAUSE;
  t.equal(await control.acknowledged(vcpu, 1), false);
});

void test('a vCPU that does not acknowledge is noticed', async (t) => {
  const control = new Control();
  control.command = PAUSE;
  t.equal(await control.acknowledged(3, 5), false);
});

void test('a sleeping vCPU is not kept by a command that came before', (t) => {
  const control = new Control();
  control.command = PAUSE;
  const before = performance.now();
  control.sleep(60_000);
  t.ok(performance.now() - before < 10_000);
  control.command = STOP;
  t.equal(control.park(0), false);
  control.command = RUN;
  t.equal(control.park(0), true);
  t.end();
});

void test('the vTPM mailbox: each event arrives once, cut and padded to its length', async (t) => {
  const mailbox = new TpmMailbox();
  const heard: [number, string][] = [];
  const enough = Promise.withResolvers<void>();
  void mailbox.serve((index, event) => {
    heard.push([index, Buffer.from(event).toString('latin1')]);
    if (heard.length === 3) enough.resolve();
  });
  const guest = new Worker(new URL('extending-vcpu.ts', import.meta.url), {
    workerData: { mailbox: mailbox.buffer },
  });
  const exited = once(guest, 'exit');
  await enough.promise;
  await exited;
  t.same(heard, [
    [16, 'first'.padEnd(64, '\0')],
    [17, 'x'.repeat(64)],
    [0, '\0'.repeat(64)],
  ]);
});
