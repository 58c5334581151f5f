import { randomBytes } from 'node:crypto';
import { test } from 'tap';
import { MiB, PAGE_BYTES } from '../../../../src/base/units.ts';
import { RamFile } from '../../../../src/migration/data-plane/ram-file.ts';
import { TestMemory } from './memories.ts';

void test('what is written to the file is what the mapping shows', (t) => {
  using memory = new TestMemory(MiB);
  const file = new RamFile(memory.place.ramPath, MiB);
  t.equal(file.pageCount, 256);
  const bytes = randomBytes(2 * PAGE_BYTES);
  file.write(bytes, 3 * PAGE_BYTES);
  file.write(bytes.subarray(0, 0), 0);
  const expected = Buffer.alloc(MiB);
  expected.set(bytes, 3 * PAGE_BYTES);
  t.equal(Buffer.compare(memory.ram, expected), 0);
  memory.ram.fill(1, 0, PAGE_BYTES);
  file.write(bytes.subarray(0, 100), 50);
  t.equal(Buffer.compare(memory.ram.subarray(50, 150), bytes.subarray(0, 100)), 0);
  t.equal(memory.ram[150], 1, 'and nothing beside it');
  t.end();
});

void test('what is read is what the mapping shows; a file of another size is refused', (t) => {
  using memory = new TestMemory(MiB);
  memory.scribble(7);
  const into = Buffer.alloc(2 * PAGE_BYTES);
  memory.file().read(into, 6 * PAGE_BYTES);
  t.same(into, Buffer.from(memory.ram.subarray(6 * PAGE_BYTES, 8 * PAGE_BYTES)));
  t.throws(() => memory.file().read(into, MiB - PAGE_BYTES), { code: 'NATIVE_FAILED' });
  t.throws(() => new RamFile(memory.place.ramPath, 2 * MiB), { code: 'NATIVE_FAILED' });
  t.throws(() => new RamFile(`${memory.place.ramPath}.none`, MiB), { code: 'NATIVE_FAILED' });
  t.end();
});

void test('a write that fails: NATIVE_FAILED', (t) => {
  const full = new RamFile('/dev/full', 0);
  t.throws(() => full.write(randomBytes(10), 0), { code: 'NATIVE_FAILED' });
  t.end();
});
