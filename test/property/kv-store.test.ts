/** The key-value store in guest memory against a map; the audit against forged slots. */
import * as fc from 'fast-check';
import { test } from 'tap';
import { KEY_BYTES_MAX, KvStore, VALUE_BYTES_MAX } from '../../src/guest/ram/kv-store.ts';
import { PAGE_BYTES } from '../../src/base/units.ts';

/** Few slots, so that keys collide and the store gets full. */
const PAGES = 3;
const SLOTS = PAGES * 2;
const SLOT_BYTES = PAGE_BYTES / 2;

/** What the store must do, said naively. */
interface Model {
  readonly values: Map<string, string>;
  writes: number;
}

class Put implements fc.Command<Model, KvStore> {
  readonly key: string;
  readonly value: string;
  constructor(key: string, value: string) {
    this.key = key;
    this.value = value;
  }
  check = (): boolean => true;
  run(model: Model, store: KvStore): void {
    const fits = model.values.has(this.key) || model.values.size < SLOTS;
    const at = store.set(this.key, this.value);
    if ((at !== undefined) !== fits)
      throw new Error(fits ? 'not stored' : 'stored into a full store');
    if (!fits) return;
    model.values.set(this.key, this.value);
    model.writes += 1;
  }
  toString = (): string => `put ${this.key}=${this.value.length}`;
}

class Remove implements fc.Command<Model, KvStore> {
  readonly key: string;
  constructor(key: string) {
    this.key = key;
  }
  check = (): boolean => true;
  run(model: Model, store: KvStore): void {
    const known = model.values.delete(this.key);
    if ((store.delete(this.key) !== undefined) !== known) throw new Error('delete');
    if (known) model.writes += 1;
  }
  toString = (): string => `delete ${this.key}`;
}

class Get implements fc.Command<Model, KvStore> {
  readonly key: string;
  constructor(key: string) {
    this.key = key;
  }
  check = (): boolean => true;
  run(model: Model, store: KvStore): void {
    if (store.get(this.key) !== model.values.get(this.key)) throw new Error('get');
  }
  toString = (): string => `get ${this.key}`;
}

/** Every entry is intact, and the versions sum up to the writes done. */
class Audit implements fc.Command<Model, KvStore> {
  check = (): boolean => true;
  run(model: Model, store: KvStore): void {
    const { entries, bad, versionSum } = store.audit();
    if (entries !== model.values.size) throw new Error(`${entries} entries`);
    if (bad !== 0) throw new Error('bad');
    if (versionSum !== model.writes) throw new Error(`sum ${versionSum}, ${model.writes} writes`);
  }
  toString = (): string => 'audit';
}

const key = fc.constantFrom('a', 'b', 'ü', 'key', 'd', 'e', 'f', 'g', 'k'.repeat(KEY_BYTES_MAX));
const value = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }).filter((text) => text.isWellFormed()),
  fc.constant('v'.repeat(VALUE_BYTES_MAX)),
);

void test('any sequence of commands does what a map does', async () => {
  fc.assert(
    fc.property(
      fc.commands(
        [
          fc.tuple(key, value).map(([k, v]) => new Put(k, v)),
          key.map((k) => new Remove(k)),
          key.map((k) => new Get(k)),
          fc.constant(new Audit()),
        ],
        { maxCommands: 60 },
      ),
      (commands) => {
        fc.modelRun(
          () => ({
            model: { values: new Map<string, string>(), writes: 0 },
            real: new KvStore(Buffer.alloc(PAGES * PAGE_BYTES)),
          }),
          commands,
        );
      },
    ),
    { numRuns: 200 },
  );
});

const filled = (): Buffer => {
  const bytes = Buffer.alloc(PAGES * PAGE_BYTES);
  const store = new KvStore(bytes);
  for (const each of ['a', 'b', 'c']) store.set(each, `value of ${each}`);
  store.delete('b');
  return bytes;
};

/** Bytes of a slot that nothing depends on: padding, and what is beyond key and value. */
const isIdle = (bytes: Buffer, at: number): boolean => {
  const slot = at - (at % SLOT_BYTES);
  const within = at % SLOT_BYTES;
  if (bytes.readUInt32LE(slot) === 0 || within < 16) return false;
  if (within < 80) return within >= 16 + bytes.readUInt16LE(slot + 4);
  return within >= 80 + bytes.readUInt16LE(slot + 6);
};

void test('a flipped bit anywhere that counts is found, and in which page', async (t) => {
  const intact = filled();
  const { versionSum } = new KvStore(intact).audit();
  fc.assert(
    fc.property(fc.nat({ max: intact.length - 1 }), fc.nat({ max: 7 }), (at, bit) => {
      fc.pre(!isIdle(intact, at));
      const forged = Buffer.from(intact);
      forged[at] = (forged[at] ?? 0) ^ (1 << bit);
      const audit = new KvStore(forged).audit();
      if (audit.bad !== 1 || audit.firstBadPage !== Math.floor(at / PAGE_BYTES)) {
        throw new Error(`not found: ${JSON.stringify(audit)}`);
      }
    }),
    { numRuns: 500 },
  );
  t.equal(versionSum, 4);
});

void test('a lost page and a stale page change the sum of the versions', (t) => {
  const intact = filled();
  const { versionSum } = new KvStore(intact).audit();
  const changed = Buffer.from(intact);
  const at = new KvStore(changed).set('a', 'another value');
  const page = Math.floor((at ?? 0) / PAGE_BYTES) * PAGE_BYTES;
  const stale = Buffer.from(changed);
  intact.copy(stale, page, page, page + PAGE_BYTES);
  t.equal(new KvStore(changed).audit().versionSum, versionSum + 1);
  t.equal(new KvStore(stale).audit().versionSum, versionSum, 'stale: the registers say one more');
  const lost = Buffer.from(changed).fill(0, page, page + PAGE_BYTES);
  t.ok(new KvStore(lost).audit().versionSum < versionSum);
  t.end();
});
