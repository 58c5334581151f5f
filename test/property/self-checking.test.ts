/** Self-checking pages and the guest's check of its memory: every way to be wrong is forged and found. */
import * as fc from 'fast-check';
import { test } from 'tap';
import { PAGE_BYTES } from '../../src/base/units.ts';
import { ramLayout } from '../../src/guest/ram/layout.ts';
import { checkMemory } from '../../src/guest/ram/self-check.ts';
import { isPageIntact, PAYLOAD_WORDS, writePage } from '../../src/guest/ram/self-checking.ts';

const PAGES = 24;
const WORDS = PAGE_BYTES / 4;
const layout = ramLayout(PAGES * PAGE_BYTES, 0, { kind: 'idle' });

/** A guest's memory after `writes`, and what its registers would say. */
function memoryAfter(writes: readonly number[]): { ram: ArrayBuffer; registerSum: number } {
  const ram = new ArrayBuffer(PAGES * PAGE_BYTES);
  const words = new Uint32Array(ram);
  for (const page of writes) {
    const version = (words[page] ?? 0) + 1;
    writePage(words, page, version);
    words[page] = version;
  }
  return { ram, registerSum: writes.length };
}

const dataPage = fc.integer({ min: layout.dataFirst, max: PAGES - 1 });
const writes = fc.array(dataPage, { minLength: 1, maxLength: 60 });
const kept = fc.integer({ min: 0, max: PAYLOAD_WORDS - 1 });
const version = fc.integer({ min: 0, max: 2 ** 32 - 1 });

function expectBad(ram: ArrayBuffer, page: number): void {
  const { badPages, firstBadPage } = checkMemory(ram, layout);
  if (badPages !== 1 || firstBadPage !== page) {
    throw new Error(`page ${page} forged, found ${badPages}, first ${firstBadPage}`);
  }
}

void test('what was written is intact, and is nothing else', async () => {
  fc.assert(
    fc.property(
      dataPage,
      version,
      kept,
      dataPage,
      version,
      (page, ours, same, otherPage, other) => {
        const words = new Uint32Array(PAGES * WORDS);
        if (ours > 0) writePage(words, page, ours, same);
        if (!isPageIntact(words, page, ours)) throw new Error('not intact');
        if (other !== ours && isPageIntact(words, page, other)) throw new Error('another version');
        if (ours === 0 || otherPage === page) return;
        words.copyWithin(otherPage * WORDS, page * WORDS, (page + 1) * WORDS);
        if (isPageIntact(words, otherPage, ours)) throw new Error('moved');
      },
    ),
  );
});

void test('of a page that is written in part no more than that changes', async () => {
  fc.assert(
    fc.property(dataPage, kept, version, (page, same, ours) => {
      const [before, after] = [1, Math.max(ours, 1)].map((each) => {
        const words = new Uint32Array(PAGES * WORDS);
        writePage(words, page, each, same);
        return words.subarray(page * WORDS + 4, (page + 1) * WORDS);
      });
      const part = (words: Uint32Array | undefined) => words?.subarray(0, same).join(' ');
      if (part(before) !== part(after)) throw new Error('changed');
    }),
  );
});

void test('memory that nobody harmed is found whole', async () => {
  fc.assert(
    fc.property(writes, (pages) => {
      const { ram, registerSum } = memoryAfter(pages);
      const check = checkMemory(ram, layout);
      if (check.badPages !== 0 || check.firstBadPage !== null) throw new Error('bad');
      if (check.versionSum !== registerSum) throw new Error('sum');
      if (check.writtenPages !== new Set(pages).size) throw new Error('written');
    }),
  );
});

void test('a flipped bit anywhere in a page is found', async () => {
  fc.assert(
    fc.property(writes, dataPage, fc.nat({ max: PAGE_BYTES * 8 - 1 }), (pages, page, bit) => {
      const { ram } = memoryAfter(pages);
      const bytes = new Uint8Array(ram, page * PAGE_BYTES, PAGE_BYTES);
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expectBad(ram, page);
    }),
    { numRuns: 500 },
  );
});

void test('a flipped bit in the table of versions is found', async () => {
  fc.assert(
    fc.property(writes, dataPage, fc.nat({ max: 31 }), (pages, page, bit) => {
      const { ram } = memoryAfter(pages);
      const words = new Uint32Array(ram);
      words[page] = (words[page] ?? 0) ^ (1 << bit);
      expectBad(ram, page);
    }),
  );
});

void test('a lost page, a stale page, swapped pages are found', async () => {
  fc.assert(
    fc.property(writes, fc.nat(), (pages, pick) => {
      const page = pages[pick % pages.length] ?? 0;
      const before = memoryAfter(pages);
      const after = memoryAfter([...pages, page]);
      const at = page * PAGE_BYTES;
      const lost = after.ram.slice();
      new Uint8Array(lost).fill(0, at, at + PAGE_BYTES);
      expectBad(lost, page);
      const stale = after.ram.slice();
      new Uint8Array(stale).set(new Uint8Array(before.ram, at, PAGE_BYTES), at);
      expectBad(stale, page);
      const other = pages.find((each) => each !== page);
      if (other === undefined) return;
      const swapped = new Uint8Array(after.ram.slice());
      swapped.set(new Uint8Array(after.ram, other * PAGE_BYTES, PAGE_BYTES), at);
      swapped.set(new Uint8Array(after.ram, at, PAGE_BYTES), other * PAGE_BYTES);
      if (checkMemory(swapped.buffer, layout).badPages !== 2) throw new Error('swapped');
    }),
  );
});

void test('old memory that is whole in itself is betrayed by the registers', async () => {
  fc.assert(
    fc.property(writes, dataPage, (pages, page) => {
      const old = checkMemory(memoryAfter(pages).ram, layout);
      const { registerSum } = memoryAfter([...pages, page]);
      if (old.badPages !== 0) throw new Error('bad');
      if (old.versionSum === registerSum) throw new Error('not noticed');
    }),
  );
});

void test('nothing of an image is lost unnoticed', async () => {
  const bytes = 3 * PAGE_BYTES - 100;
  const withImage = ramLayout(PAGES * PAGE_BYTES, bytes, { kind: 'idle' });
  const intact = checkMemory(new ArrayBuffer(PAGES * PAGE_BYTES), withImage);
  fc.assert(
    fc.property(fc.nat({ max: bytes - 1 }), (at) => {
      const ram = new ArrayBuffer(PAGES * PAGE_BYTES);
      new Uint8Array(ram)[withImage.imageFirst * PAGE_BYTES + at] = 1;
      const { imageSha256, badPages } = checkMemory(ram, withImage);
      if (badPages !== 0) throw new Error('the image is not self-checking');
      if (imageSha256 === intact.imageSha256) throw new Error('same digest');
    }),
  );
});
