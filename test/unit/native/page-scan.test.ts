/** Write protection and page scans: what the kernel refuses is an error, and no run is cut off. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import { PAGE_BYTES } from '../../../src/base/units.ts';
import { SharedMapping } from '../../../src/native/mapping.ts';
import { PageScanner } from '../../../src/native/page-scan.ts';
import { WriteProtection } from '../../../src/native/write-protection.ts';

interface Memory extends Disposable {
  readonly mapping: SharedMapping;
}

function memory(pages: number): Memory {
  const dir = mkdtempSync('/dev/shm/scan-');
  const mapping = SharedMapping.create(path.join(dir, 'ram'), pages * PAGE_BYTES);
  return {
    mapping,
    [Symbol.dispose]() {
      mapping[Symbol.dispose]();
      rmSync(dir, { recursive: true });
    },
  };
}

/** Why this kernel cannot, if it cannot: said, or with MIGD_REQUIRE_ALL a failure. */
function missing(): string | false {
  using one = memory(1);
  try {
    using _protection = new WriteProtection({
      address: one.mapping.address,
      byteLength: PAGE_BYTES,
    });
    return false;
  } catch (thrown) {
    if (process.env['MIGD_REQUIRE_ALL'] === '1') throw thrown;
    return 'missing: userfaultfd with asynchronous write protection (Linux >= 6.7)';
  }
}

const skip = missing();

const runsOf = (scanner: PageScanner): [number, number][] => {
  const runs: [number, number][] = [];
  scanner.scan((first, pages) => runs.push([first, pages]));
  return runs;
};

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

void test('runs of written pages, each once', { skip }, async (t) => {
  using held = memory(64);
  const { address, byteLength } = held.mapping;
  using _protection = new WriteProtection({ address, byteLength });
  using scanner = new PageScanner(address, byteLength);
  runsOf(scanner);
  t.same(runsOf(scanner), []);
  const bytes = new Uint8Array(held.mapping.view());
  for (const page of [0, 5, 6, 7, 63]) bytes[page * PAGE_BYTES] = 1;
  t.same(runsOf(scanner), [
    [0, 1],
    [5, 3],
    [63, 1],
  ]);
  t.same(runsOf(scanner), [], 're-armed');
});

void test('more runs than one call of the kernel reports', { skip }, async (t) => {
  const pages = 2 * 4096 * 2 + 3;
  using held = memory(pages);
  const { address, byteLength } = held.mapping;
  using _protection = new WriteProtection({ address, byteLength });
  using scanner = new PageScanner(address, byteLength);
  runsOf(scanner);
  const bytes = new Uint8Array(held.mapping.view());
  for (let page = 0; page < pages; page += 2) bytes[page * PAGE_BYTES] = 1;
  const runs = runsOf(scanner);
  t.equal(runs.length, Math.ceil(pages / 2));
  t.ok(runs.every(([first, count], i) => first === 2 * i && count === 1));
});

void test('memory without protection cannot be scanned', { skip }, async (t) => {
  using held = memory(4);
  using scanner = new PageScanner(held.mapping.address, held.mapping.byteLength);
  t.throws(() => runsOf(scanner), { code: 'NATIVE_FAILED', detail: /^PAGEMAP_SCAN: EPERM/ });
});

void test(
  'memory that is not there cannot be protected, and no descriptor is left',
  { skip },
  async (t) => {
    const before = openDescriptors();
    t.throws(() => new WriteProtection({ address: BigInt(PAGE_BYTES), byteLength: PAGE_BYTES }), {
      code: 'NATIVE_FAILED',
      detail: /^UFFDIO_REGISTER: /,
    });
    t.throws(
      () => new WriteProtection({ address: 1n, byteLength: 1 }),
      { code: 'NATIVE_FAILED' },
      'not whole pages',
    );
    t.equal(openDescriptors(), before);
  },
);

void test('the same memory cannot be protected twice', { skip }, async (t) => {
  using held = memory(4);
  const { address, byteLength } = held.mapping;
  {
    using _first = new WriteProtection({ address, byteLength });
    t.throws(() => new WriteProtection({ address, byteLength }), {
      code: 'NATIVE_FAILED',
      detail: 'UFFDIO_REGISTER: EBUSY',
    });
  }
  using _again = new WriteProtection({ address, byteLength });
});
