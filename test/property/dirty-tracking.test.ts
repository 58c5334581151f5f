/**
 * Dirty tracking, both kinds, against a naive set: whatever is written between two collections is
 * reported once, by the next collection, and nothing else is.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import * as fc from 'fast-check';
import { test } from 'tap';
import { PAGE_BYTES } from '../../src/base/units.ts';
import { dirtyLogBytes, LogTracker } from '../../src/guest/dirty/log.ts';
import { setRange, type DirtyTracker } from '../../src/guest/dirty/tracker.ts';
import { UffdTracker } from '../../src/guest/dirty/uffd.ts';
import { SharedMapping } from '../../src/native/mapping.ts';
import { counterOf, storeTo, type StoringSetup } from './storing.ts';

const PAGES = 203;
/** That many, each of something, while another thread writes. */
const COLLECTIONS = 500;
const BITMAP_BYTES = Math.ceil(PAGES / 8);

/** Memory with a tracker, and the store path that the tracker is for. */
interface Tracked extends Disposable {
  readonly tracker: DirtyTracker;
  readonly setup: StoringSetup;
  readonly words: Uint32Array;
  store(page: number): void;
}

type Kind = 'uffd' | 'log';

function tracked(kind: Kind): Tracked {
  const dir = mkdtempSync('/dev/shm/dirty-');
  const mapping = SharedMapping.create(path.join(dir, 'ram'), PAGES * PAGE_BYTES);
  const words = new Uint32Array(mapping.view());
  const log = kind === 'log' ? new SharedArrayBuffer(dirtyLogBytes(PAGES)) : undefined;
  const marks = log === undefined ? undefined : new Int32Array(log);
  const tracker =
    log === undefined ? new UffdTracker(mapping.address, mapping.byteLength) : new LogTracker(log);
  return {
    tracker,
    setup: {
      address: mapping.address,
      bytes: mapping.byteLength,
      log,
      stop: new SharedArrayBuffer(4),
    },
    words,
    store: (page) => storeTo(page, words, marks),
    [Symbol.dispose]() {
      tracker[Symbol.dispose]();
      mapping[Symbol.dispose]();
      rmSync(dir, { recursive: true });
    },
  };
}

/** Why the MMU cannot be asked on this machine, if it cannot. */
function missing(kind: Kind): string | false {
  if (kind === 'log') return false;
  const dir = mkdtempSync('/dev/shm/dirty-');
  try {
    using mapping = SharedMapping.create(path.join(dir, 'ram'), PAGE_BYTES);
    if (UffdTracker.isSupported(mapping.address, mapping.byteLength)) return false;
  } finally {
    rmSync(dir, { recursive: true });
  }
  const text = 'userfaultfd with asynchronous write protection and PAGEMAP_SCAN (Linux >= 6.7)';
  if (process.env['MIGD_REQUIRE_ALL'] === '1') throw new Error(`missing: ${text}`);
  return `missing: ${text}`;
}

const collected = (tracker: DirtyTracker): number[] => {
  const bitmap = new Uint8Array(BITMAP_BYTES);
  tracker.collect(bitmap);
  return pagesIn(bitmap);
};

const pagesIn = (bitmap: Uint8Array): number[] =>
  Array.from({ length: bitmap.length * 8 }, (_, page) => page).filter(
    (page) => ((bitmap[page >> 3] ?? 0) >> (page & 7)) & 1,
  );

const ascending = (pages: Iterable<number>): number[] =>
  [...new Set(pages)].toSorted((a, b) => a - b);

const same = (got: readonly number[], expected: readonly number[], what: string): void => {
  if (got.join() !== expected.join())
    throw new Error(`${what}: ${got.join()}, expected ${expected.join()}`);
};

type Step =
  | { readonly kind: 'write'; readonly pages: readonly number[] }
  | { readonly kind: 'collect' | 'arm' | 'rearm' };

const page = fc.integer({ min: 0, max: PAGES - 1 });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('write' as const),
        pages: fc.array(page, { maxLength: 60 }),
      }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('collect' as const) }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constantFrom('arm' as const, 'rearm' as const) }),
    },
  ),
  { maxLength: 20 },
);

for (const kind of ['uffd', 'log'] as const) {
  void test(
    `${kind}: what was written is reported once, and nothing else`,
    { skip: missing(kind) },
    async () => {
      using memory = tracked(kind);
      fc.assert(
        fc.property(steps, (sequence) => {
          const { tracker } = memory;
          tracker.arm();
          let written = new Set<number>();
          for (const step of sequence) {
            if (step.kind === 'write') {
              for (const each of step.pages) {
                memory.store(each);
                written.add(each);
              }
              continue;
            }
            if (step.kind === 'collect') same(collected(tracker), ascending(written), 'collected');
            if (step.kind === 'rearm') tracker.disarm();
            if (step.kind !== 'collect') tracker.arm();
            written = new Set();
          }
          same(collected(tracker), ascending(written), 'at the end');
          same(collected(tracker), [], 'a second time');
        }),
        { numRuns: 200 },
      );
    },
  );

  void test(`${kind}: bits that were set stay set`, { skip: missing(kind) }, async () => {
    using memory = tracked(kind);
    fc.assert(
      fc.property(fc.array(page), fc.array(page), (held, written) => {
        memory.tracker.arm();
        const bitmap = new Uint8Array(BITMAP_BYTES);
        for (const each of held) setRange(bitmap, each, 1);
        for (const each of written) memory.store(each);
        memory.tracker.collect(bitmap);
        same(pagesIn(bitmap), ascending([...held, ...written]), 'union');
      }),
      { numRuns: 50 },
    );
  });

  void test(
    `${kind}: no write of another thread is lost between two collections`,
    { skip: missing(kind) },
    async (t) => {
      using memory = tracked(kind);
      const { tracker, setup, words } = memory;
      tracker.arm();
      const thread = new Worker(new URL('storing.ts', import.meta.url), { workerData: setup });
      // Each page's counter at the last collection that reported it: whoever sends pages has this.
      const sent = new Uint32Array(PAGES);
      const send = (): number => {
        const pages = collected(tracker);
        for (const each of pages) sent[each] = counterOf(words, each);
        return pages.length;
      };
      const ended = once(thread, 'exit');
      for (let collections = 0; collections < COLLECTIONS;) {
        if (send() > 0) collections += 1;
        await new Promise((resolve) => {
          setImmediate(resolve);
        });
      }
      Atomics.store(new Int32Array(setup.stop), 0, 1);
      await ended;
      send();
      const stale = [...sent.keys()].filter((each) => sent[each] !== counterOf(words, each));
      t.same(stale, [], 'what was sent last is what is there');
      t.same(collected(tracker), []);
    },
  );
}
