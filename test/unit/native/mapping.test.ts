/** Shared mappings: real memory in a private file, the same bytes for all, failures with codes. */
import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import { PAGE_BYTES } from '../../../src/base/units.ts';
import { SharedMapping, viewOf } from '../../../src/native/mapping.ts';

/** A folder on tmpfs, as guests' memory is. */
function scratch(): Disposable & { readonly ram: string; readonly other: string } {
  const dir = mkdtempSync('/dev/shm/mapping-');
  return {
    ram: path.join(dir, 'ram'),
    other: path.join(dir, 'other'),
    [Symbol.dispose]: () => rmSync(dir, { recursive: true }),
  };
}

const BYTES = 8 * PAGE_BYTES;

void test('the memory of a mapping is reserved, private, and zero', async (t) => {
  using dir = scratch();
  using mapping = SharedMapping.create(dir.ram, BYTES);
  const { size, blocks, mode } = statSync(dir.ram);
  t.equal(size, BYTES);
  t.ok(blocks * 512 >= BYTES, 'no sparse file');
  t.equal(mode & 0o777, 0o600);
  t.ok(Buffer.from(mapping.view()).equals(Buffer.alloc(BYTES)));
});

void test('all mappings of a file, and the file, have the same bytes', async (t) => {
  using dir = scratch();
  using first = SharedMapping.create(dir.ram, BYTES);
  using second = SharedMapping.open(dir.ram);
  t.equal(second.byteLength, BYTES);
  t.not(second.address, first.address);
  new Uint8Array(first.view())[PAGE_BYTES + 1] = 42;
  t.equal(new Uint8Array(second.view())[PAGE_BYTES + 1], 42);
  t.equal(new Uint8Array(viewOf(first.address, BYTES))[PAGE_BYTES + 1], 42);
  t.equal(readFileSync(dir.ram)[PAGE_BYTES + 1], 42);
  const words = [first, second].map((mapping) => new Int32Array(mapping.view()));
  for (const each of words) Atomics.add(each, 0, 1);
  t.same(
    words.map((each) => each[0]),
    [2, 2],
    'atomics are those of one memory',
  );
});

void test('a mapping stays out of core files, and is gone when disposed of', async (t) => {
  using dir = scratch();
  const mapping = SharedMapping.create(dir.ram, BYTES);
  const flagsOf = () => {
    const from = mapping.address.toString(16);
    const [, after] = readFileSync('/proc/self/smaps', 'utf8').split(`\n${from}-`);
    return after?.split('VmFlags: ')[1]?.split('\n')[0];
  };
  t.match(flagsOf(), /\bdd\b/, 'do not dump');
  mapping[Symbol.dispose]();
  t.equal(flagsOf(), undefined);
  mapping[Symbol.dispose]();
});

void test('what cannot be mapped has a code', async (t) => {
  using dir = scratch();
  t.throws(() => SharedMapping.create(dir.ram, 2 ** 52), { code: 'DEST_CAPACITY' });
  writeFileSync(dir.other, '');
  t.throws(() => SharedMapping.open(dir.other), { code: 'NATIVE_FAILED' }, 'empty');
});

void test('no file is taken over, no link followed', async (t) => {
  using dir = scratch();
  writeFileSync(dir.other, 'x'.repeat(PAGE_BYTES));
  t.throws(() => SharedMapping.create(dir.other, BYTES), { code: 'EEXIST' });
  symlinkSync(dir.other, dir.ram);
  t.throws(() => SharedMapping.create(dir.ram, BYTES), { code: 'EEXIST' });
  t.throws(() => SharedMapping.open(dir.ram), { code: 'ELOOP' });
  t.equal(readFileSync(dir.other, 'utf8'), 'x'.repeat(PAGE_BYTES));
});
