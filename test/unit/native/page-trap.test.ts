/** A page that is not there yet: who touches it waits, and goes on when it has come. */
import { once } from 'node:events';
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { test } from 'tap';
import { PAGE_BYTES } from '../../../src/base/units.ts';
import {
  fetchDescriptor,
  NOTE_BYTES,
  sendDescriptor,
} from '../../../src/native/descriptor-passing.ts';
import { writeAt } from '../../../src/native/file-io.ts';
import { SharedMapping } from '../../../src/native/mapping.ts';
import { PageFaults, PageTrap } from '../../../src/native/page-trap.ts';

const PAGES = 64;

function memory(t: { teardown(undo: () => void): void }) {
  const dir = mkdtempSync('/dev/shm/migd-trap-');
  t.teardown(() => rmSync(dir, { recursive: true }));
  const file = path.join(dir, 'ram');
  const mapping = SharedMapping.create(file, PAGES * PAGE_BYTES);
  return { dir, mapping, fd: openSync(file, 'r+') };
}

/** A thread that reads the first byte of each of `pages`, and says what it was. */
async function reader(mapping: SharedMapping) {
  const { address, byteLength } = mapping;
  const worker = new Worker(new URL('trap-reader.ts', import.meta.url), {
    workerData: { address, byteLength },
  });
  await once(worker, 'message');
  return worker;
}

void test('a thread waits for a page until it is resolved, and sees what has come', async (t) => {
  const { mapping, fd } = memory(t);
  const trap = new PageTrap(mapping);
  const faults = new PageFaults(trap.fd, mapping);
  const worker = await reader(mapping);
  t.same(faults.take(), [], 'nobody waits');
  for (const page of [0, 7, PAGES - 1]) {
    worker.postMessage(page, []);
    t.match(faults.wait(-1, 10_000), { faults: true });
    t.same(faults.take(), [page]);
    t.same(faults.take(), [], 'told once');
    writeAt(fd, Buffer.alloc(PAGE_BYTES, page + 1), page * PAGE_BYTES);
    faults.resolve(page, 1);
    t.same(await once(worker, 'message'), [{ page, value: page + 1 }]);
  }
  faults.resolve(0, PAGES);
  worker.postMessage(3, []);
  t.same(await once(worker, 'message'), [{ page: 3, value: 0 }], 'resolved ahead, some already');
  await worker.terminate();
  faults[Symbol.dispose]();
  mapping[Symbol.dispose]();
});

void test('who was told of a fault and is gone is followed by one that is told again', async (t) => {
  const { mapping } = memory(t);
  const trap = new PageTrap(mapping);
  const worker = await reader(mapping);
  worker.postMessage(5, []);
  const first = new PageFaults(trap.fd, mapping);
  t.match(first.wait(-1, 10_000), { faults: true });
  t.same(first.take(), [5]);
  const second = new PageFaults(trap.fd, mapping);
  t.match(second.wait(-1, 10_000), { faults: true });
  t.same(second.take(), [5]);
  second.resolve(5, 1);
  t.same(await once(worker, 'message'), [{ page: 5, value: 0 }]);
  await worker.terminate();
  trap[Symbol.dispose]();
  mapping[Symbol.dispose]();
});

void test('the trap is opened when its last descriptor is closed', async (t) => {
  const { mapping } = memory(t);
  const trap = new PageTrap(mapping);
  t.throws(() => new PageTrap(mapping), { code: 'NATIVE_FAILED' }, 'one at a time');
  const worker = await reader(mapping);
  worker.postMessage(9, []);
  const faults = new PageFaults(trap.fd, mapping);
  t.match(faults.wait(-1, 10_000), { faults: true });
  faults[Symbol.dispose]();
  t.same(await once(worker, 'message'), [{ page: 9, value: 0 }]);
  t.ok(PageTrap.isSupported(mapping));
  await worker.terminate();
  mapping[Symbol.dispose]();
});

void test('a descriptor goes from one process to another, with its note', async (t) => {
  const { dir, mapping } = memory(t);
  const trap = new PageTrap(mapping);
  const note = new Uint8Array(NOTE_BYTES).fill(3);
  const socketPath = path.join(dir, 'socket');
  const server = createServer((socket) => {
    const { _handle } = socket as Socket & { readonly _handle: { readonly fd: number } };
    sendDescriptor(_handle.fd, trap.fd, note);
    socket.end();
  });
  server.listen(socketPath);
  await once(server, 'listening');
  const fetcher = new Worker(new URL('trap-fetcher.ts', import.meta.url), {
    workerData: { socketPath },
  });
  const [got] = (await once(fetcher, 'message')) as [{ fd: number; note: Uint8Array }];
  t.same(got.note, note);
  t.not(got.fd, trap.fd);
  const faults = new PageFaults(got.fd, mapping);
  const worker = await reader(mapping);
  worker.postMessage(1, []);
  t.match(faults.wait(-1, 10_000), { faults: true }, 'it is the same trap');
  faults.resolve(1, 1);
  await once(worker, 'message');
  await worker.terminate();
  t.throws(() => fetchDescriptor(path.join(dir, 'nothing')), { code: 'NATIVE_FAILED' });
  t.throws(() => fetchDescriptor(path.join(dir, 'x'.repeat(120))), { code: 'NATIVE_FAILED' });
  server.close();
  faults[Symbol.dispose]();
  trap[Symbol.dispose]();
  mapping[Symbol.dispose]();
});
