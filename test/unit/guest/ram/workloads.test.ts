/** Workloads: the rate, the pages that they may write, that they go on where their registers are. */
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import * as fc from 'fast-check';
import { test } from 'tap';
import { PAGE_BYTES } from '../../../../src/base/units.ts';
import { ramLayout, type RamLayout } from '../../../../src/guest/ram/layout.ts';
import { checkMemory } from '../../../../src/guest/ram/self-check.ts';
import { Control, REGISTER, REGISTERS, RUN, TpmMailbox } from '../../../../src/guest/ram/shared.ts';
import { VcpuContext } from '../../../../src/guest/ram/vcpu-context.ts';
import { runWorkload } from '../../../../src/guest/ram/workloads.ts';
import { SharedMapping } from '../../../../src/native/mapping.ts';
import type { Workload } from '../../../../src/protocol/descriptor.ts';

const PAGES = 200;
const SLICES = 100;
const SLICE_MS = 10;

/** A vCPU whose time is the test's. */
class Stepped extends VcpuContext {
  override loop(work: (ms: number) => void): void {
    for (let i = 0; i < SLICES; i += 1) work(SLICE_MS);
  }
}

interface Run {
  readonly versions: readonly number[];
  readonly layout: RamLayout;
  readonly sums: readonly number[];
  readonly badPages: number;
  readonly versionSum: number;
}

/** What a second of the workload on each of `vcpus` does to zeroed memory. */
function second(workload: Workload, vcpus: number, seed = 1): Run {
  const dir = mkdtempSync('/dev/shm/workload-');
  using mapping = SharedMapping.create(path.join(dir, 'ram'), PAGES * PAGE_BYTES);
  try {
    const layout = ramLayout(PAGES * PAGE_BYTES, 0, workload);
    const registers = new SharedArrayBuffer(vcpus * REGISTERS * 8);
    const values = new Float64Array(registers);
    for (let vcpu = 0; vcpu < vcpus; vcpu += 1) {
      values[vcpu * REGISTERS + REGISTER.random] = seed + vcpu;
      const context = new Stepped({
        vcpu,
        vcpus,
        workload,
        layout,
        fill: 0,
        ramAddress: mapping.address,
        control: new Control().buffer,
        registers,
        mailbox: new TpmMailbox().buffer,
        dirtyLog: undefined,
        extendMs: 1e9,
      });
      runWorkload(context);
    }
    const words = new Uint32Array(mapping.view());
    const { badPages, versionSum } = checkMemory(mapping.view(), layout);
    return {
      versions: [...words.subarray(0, PAGES)],
      layout,
      sums: Array.from(
        { length: vcpus },
        (_, i) => values[i * REGISTERS + REGISTER.versionSum] ?? 0,
      ),
      badPages,
      versionSum,
    };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

const writing: fc.Arbitrary<Exclude<Workload, { kind: 'idle' | 'kv' }>> = fc
  .record({
    rateBps: fc.integer({ min: 0, max: 2000 }).map((pages) => pages * PAGE_BYTES),
    workingSetBytes: fc.integer({ min: 1, max: 2 * PAGES }).map((pages) => pages * PAGE_BYTES),
    skew: fc.option(fc.double({ min: 0, max: 4, noNaN: true })),
  })
  .map(({ rateBps, workingSetBytes, skew }) =>
    skew === null
      ? { kind: 'writer', rateBps, workingSetBytes }
      : { kind: 'zipf', rateBps, workingSetBytes, skew },
  );

void test('writes come at the rate, within the working set, and the guest is whole', async () => {
  fc.assert(
    fc.property(writing, fc.integer({ min: 1, max: 4 }), (workload, vcpus) => {
      const { versions, layout, sums, badPages, versionSum } = second(workload, vcpus);
      const written = versions.flatMap((version, page) => (version > 0 ? [page] : []));
      const { dataFirst, workingPages } = layout;
      if (!written.every((page) => page >= dataFirst && page < dataFirst + workingPages)) {
        throw new Error('outside the working set');
      }
      if (badPages !== 0 || versionSum !== total(sums)) throw new Error('not whole');
      // A vCPU without a page of its own writes nothing.
      const busy = Math.min(vcpus, workingPages);
      const due = (workload.rateBps / PAGE_BYTES) * (busy / vcpus);
      if (Math.abs(versionSum - due) > vcpus) throw new Error(`${versionSum} written, ${due} due`);
    }),
    { numRuns: 60 },
  );
});

void test('no two vCPUs write the same page', async () => {
  const workload: Workload = { kind: 'writer', rateBps: 4e6, workingSetBytes: 90 * PAGE_BYTES };
  const { versions, layout, sums } = second(workload, 3);
  for (const [vcpu, sum] of sums.entries()) {
    const own = versions.filter((_, page) => (page - layout.dataFirst) % 3 === vcpu);
    if (total(own) !== sum) throw new Error(`vCPU ${vcpu}`);
  }
});

void test('the same registers make the same writes, others others', async (t) => {
  const workload: Workload = {
    kind: 'zipf',
    rateBps: 4e6,
    workingSetBytes: 90 * PAGE_BYTES,
    skew: 1,
  };
  t.same(second(workload, 2).versions, second(workload, 2).versions);
  t.notSame(second(workload, 2).versions, second(workload, 2, 77).versions);
});

/** Share of the writes that the ten hottest of a hundred pages get. */
function hottest(skew: number): number {
  const { versions, versionSum } = second(
    { kind: 'zipf', rateBps: 40e6, workingSetBytes: 100 * PAGE_BYTES, skew },
    1,
  );
  return total(versions.toSorted((a, b) => b - a).slice(0, 10)) / versionSum;
}

void test('skew makes few pages hot, none makes all alike, and none is left out', async (t) => {
  t.ok(hottest(0) < 0.15);
  // Of the weights 1 / r ** 1.2, r up to 100, the first ten are 0.685.
  t.ok(Math.abs(hottest(1.2) - 0.685) < 0.03);
  const workload: Workload = {
    kind: 'zipf',
    rateBps: 40e6,
    workingSetBytes: 96 * PAGE_BYTES,
    skew: 0,
  };
  const { versions } = second(workload, 2);
  t.equal(versions.filter((version) => version > 0).length, 96);
});

void test('an idle guest writes nothing', async (t) => {
  t.equal(total(second({ kind: 'idle' }, 2).versions), 0);
  t.equal(RUN, 0, 'a control word of zeros is a command to run');
});
