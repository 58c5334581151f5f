import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, open, readdir, readFile, stat, symlink, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { VTPM_STATE_BYTES_MAX } from '../../../src/base/limits.ts';
import type { Random } from '../../../src/base/ports.ts';
import { VtpmAtRest } from '../../../src/vtpm/at-rest.ts';
import { NV_INDEX_FIRST } from '../../../src/vtpm/nv-storage.ts';
import { SoftwareTpm } from '../../../src/vtpm/software-tpm.ts';
import { refusalOf, rejectionOf, StillClock, systemRandom } from './fixtures.ts';

const NOTHING = { stateDigest: null, filesDestroyed: 0, bytesOverwritten: 0 };
const FIRST = Buffer.from('the first state');
const SECOND = Buffer.from('the second state');

/** A directory with its key under a scratch folder. */
function created(scratch: string): { path: string; atRest: VtpmAtRest } {
  const path = join(scratch, 'vtpm');
  const atRest = new VtpmAtRest(path, systemRandom);
  atRest.create();
  return { path, atRest };
}

void test('what was saved last is loaded, by anyone who has the directory', async (t) => {
  const { path, atRest } = created(t.testdir());
  atRest.save(FIRST);
  t.ok(atRest.load().equals(FIRST));
  atRest.save(SECOND);
  t.ok(new VtpmAtRest(path, systemRandom).load().equals(SECOND));
  atRest.save(Buffer.alloc(VTPM_STATE_BYTES_MAX, 1));
  t.equal(atRest.load().length, VTPM_STATE_BYTES_MAX);
  const tooLarge = Buffer.alloc(VTPM_STATE_BYTES_MAX + 1);
  t.equal(
    refusalOf(() => atRest.save(tooLarge)),
    'the state is too large to save',
  );
  t.equal(atRest.load().length, VTPM_STATE_BYTES_MAX, 'the old one is still there');
});

void test('only the owner can read it', async (t) => {
  const { path, atRest } = created(t.testdir());
  atRest.save(FIRST);
  const modeOf = async (name: string): Promise<number> =>
    (await stat(join(path, name))).mode & 0o777;
  t.equal(await modeOf('.'), 0o700);
  t.equal(await modeOf('key'), 0o600);
  t.equal(await modeOf('state'), 0o600);
  t.same(await readdir(path), ['key', 'state']);
});

void test('a secret in the vTPM is nowhere in clear, and no save repeats a byte string', async (t) => {
  const { path, atRest } = created(t.testdir());
  const secret = Buffer.from('planted secret of thirty-two byt');
  using tpm = SoftwareTpm.create(new StillClock());
  tpm.execute({ type: 'nv-define', index: NV_INDEX_FIRST, sizeBytes: secret.length });
  tpm.execute({ type: 'nv-write', index: NV_INDEX_FIRST, data: secret });
  const state = tpm.exportState();
  t.ok(state.includes(secret), 'it is in the state');
  const saved: Buffer[] = [];
  for (let save = 0; save < 4; save++) {
    atRest.save(state);
    const file = await readFile(join(path, 'state'));
    t.notOk(file.includes(secret));
    t.notOk(file.includes(state.subarray(-16)));
    t.notOk(file.includes(await readFile(join(path, 'key'))));
    saved.push(file);
  }
  const salts = saved.map((file) => file.subarray(18, 50).toString('hex'));
  t.equal(new Set(salts).size, saved.length, 'every save has its own salt, so its own key');
  const texts = saved.map((file) => file.subarray(54, 70).toString('hex'));
  t.equal(new Set(texts).size, saved.length);
  t.same(
    saved.map((file) => file.readBigUInt64BE(10)),
    [1n, 2n, 3n, 4n],
  );
});

void test('an old file put back: its counter comes again, its key does not', async (t) => {
  const { path, atRest } = created(t.testdir());
  atRest.save(FIRST);
  const old = await readFile(join(path, 'state'));
  atRest.save(SECOND);
  const second = await readFile(join(path, 'state'));
  await writeFile(join(path, 'state'), old);
  atRest.save(SECOND);
  const again = await readFile(join(path, 'state'));
  t.same(again.subarray(10, 18), second.subarray(10, 18), 'the counter repeats');
  t.notSame(again.subarray(54), second.subarray(54), 'the same text has another ciphertext');
});

void test('an interrupted save leaves the old state; the next one goes through', async (t) => {
  const { path, atRest } = created(t.testdir());
  atRest.save(FIRST);
  await writeFile(join(path, 'state.tmp'), 'cut off');
  t.ok(atRest.load().equals(FIRST));
  atRest.save(SECOND);
  t.ok(atRest.load().equals(SECOND));
  t.same(await readdir(path), ['key', 'state']);
  await mkdir(join(path, 'state.tmp'));
  t.equal(
    refusalOf(() => atRest.save(FIRST)),
    'save: EISDIR',
  );
  t.ok(atRest.load().equals(SECOND));
});

void test('a missing, cut, foreign or altered file is refused', async (t) => {
  const { path, atRest } = created(t.testdir());
  t.equal(
    refusalOf(() => atRest.load()),
    'load: ENOENT',
  );
  atRest.save(FIRST);
  const file = await readFile(join(path, 'state'));
  const loadOf = async (bytes: Buffer): Promise<string> => {
    await writeFile(join(path, 'state'), bytes);
    return refusalOf(() => atRest.load());
  };
  for (let at = 0; at < file.length; at++) {
    const altered = Buffer.from(file);
    altered.writeUInt8(altered.readUInt8(at) ^ 0x40, at);
    t.match(await loadOf(altered), /header|length|altered/);
  }
  for (const cut of [0, 10, 53, 54, 70, file.length - 1]) {
    t.match(await loadOf(file.subarray(0, cut)), /header|length/);
  }
  t.match(await loadOf(Buffer.concat([file, Buffer.alloc(1)])), /length/);
  await writeFile(join(path, 'state'), file);
  const key = await readFile(join(path, 'key'));
  await writeFile(join(path, 'key'), key.subarray(1));
  t.match(
    refusalOf(() => atRest.load()),
    /key .* wrong length/,
  );
  await writeFile(join(path, 'key'), Buffer.alloc(33));
  t.match(
    refusalOf(() => atRest.load()),
    /key .* wrong length/,
  );
  await writeFile(join(path, 'key'), Buffer.alloc(32));
  t.match(
    refusalOf(() => atRest.load()),
    /another key/,
  );
  await writeFile(join(path, 'key'), key);
  t.ok(atRest.load().equals(FIRST));
});

void test('links are not followed', async (t) => {
  const scratch = t.testdir({ elsewhere: 'x'.repeat(32) });
  const { path, atRest } = created(scratch);
  await symlink(join(scratch, 'elsewhere'), join(path, 'state'));
  t.equal(
    refusalOf(() => atRest.load()),
    'load: ELOOP',
  );
  t.equal(await rejectionOf(atRest.destroy()), 'destroy: ELOOP');
});

void test('a key is never replaced', async (t) => {
  const { path, atRest } = created(t.testdir());
  atRest.save(FIRST);
  t.equal(
    refusalOf(() => new VtpmAtRest(path, systemRandom).create()),
    'create: EEXIST',
  );
  t.ok(atRest.load().equals(FIRST));
});

void test('the random bytes of a new key are wiped', async (t) => {
  const lent: Uint8Array[] = [];
  const random: Random = {
    bytes(count) {
      const bytes = new Uint8Array(count).fill(0x5a);
      lent.push(bytes);
      return bytes;
    },
  };
  const path = join(t.testdir(), 'vtpm');
  new VtpmAtRest(path, random).create();
  t.same(await readFile(join(path, 'key')), Buffer.alloc(32, 0x5a));
  t.equal(lent.length, 1);
  t.ok(lent[0]?.every((byte) => byte === 0));
});

void test('destroy leaves nothing, and overwrote what was there', async (t) => {
  const { path, atRest } = created(t.testdir());
  atRest.save(FIRST);
  await writeFile(join(path, 'state.tmp'), Buffer.alloc(100_000, 7));
  const names = ['key', 'state', 'state.tmp'];
  const before = await Promise.all(names.map((name) => readFile(join(path, name))));
  const held = await Promise.all(names.map((name) => open(join(path, name), 'r')));
  const facts = await atRest.destroy();
  t.same(facts, {
    stateDigest: new Uint8Array(hash('sha384', before[1] ?? '', 'buffer')),
    filesDestroyed: 3,
    bytesOverwritten: before.reduce((sum, bytes) => sum + bytes.length, 0),
  });
  t.equal(
    refusalOf(() => atRest.load()),
    'load: ENOENT',
  );
  await t.rejects(stat(path), { code: 'ENOENT' });
  for (const [at, file] of held.entries()) {
    const old = before[at] ?? Buffer.alloc(0);
    const now = await file.readFile();
    t.equal(now.length, old.length);
    for (let from = 0; from + 8 <= old.length; from += 8) {
      if (now.subarray(from, from + 8).equals(old.subarray(from, from + 8))) t.fail('old bytes');
    }
    await file.close();
  }
  t.same(await atRest.destroy(), NOTHING, 'again: nothing to do');
  t.equal(
    refusalOf(() => atRest.save(FIRST)),
    'save: ENOENT',
    'and nothing comes back',
  );
});

void test('the key is gone before the state is touched', async (t) => {
  const { path, atRest } = created(t.testdir());
  atRest.save(FIRST);
  const files = (): Buffer[] => ['key', 'state'].map((name) => readFileSync(join(path, name)));
  const [key, state] = files();
  const seen: boolean[][] = [];
  const random: Random = {
    bytes(count) {
      const [keyNow, stateNow] = files();
      seen.push([
        keyNow?.equals(key ?? Buffer.alloc(0)) ?? false,
        stateNow?.equals(state ?? Buffer.alloc(0)) ?? false,
      ]);
      return systemRandom.bytes(count);
    },
  };
  await new VtpmAtRest(path, random).destroy();
  t.same(seen, [
    [true, true],
    [false, true],
  ]);
});

void test('destroy goes on after a cut, at every step', async (t) => {
  const cuts: [string, string[]][] = [
    ['key overwritten', []],
    ['key unlinked', ['key']],
    ['state unlinked', ['key', 'state']],
  ];
  for (const [what, gone] of cuts) {
    const { path, atRest } = created(t.testdir({ [what]: {} }));
    atRest.save(FIRST);
    const sealed = await readFile(join(path, 'state'));
    await writeFile(join(path, 'key'), systemRandom.bytes(32));
    for (const name of gone) await unlink(join(path, name));
    const facts = await atRest.destroy();
    const left = gone.includes('state') ? null : new Uint8Array(hash('sha384', sealed, 'buffer'));
    t.same(facts.stateDigest, left, what);
    t.equal(facts.filesDestroyed, 2 - gone.length);
    t.same(await atRest.destroy(), NOTHING);
  }
});

void test('a state already overwritten is not certified as the state', async (t) => {
  const { path, atRest } = created(t.testdir());
  await writeFile(join(path, 'state'), systemRandom.bytes(200));
  t.same(await atRest.destroy(), { stateDigest: null, filesDestroyed: 2, bytesOverwritten: 232 });
});

void test('destroying what never was, and what holds a foreign file', async (t) => {
  const scratch = t.testdir();
  t.same(await new VtpmAtRest(join(scratch, 'none'), systemRandom).destroy(), NOTHING);
  t.same(await new VtpmAtRest(join(scratch, 'no', 'parent'), systemRandom).destroy(), NOTHING);
  const { path, atRest } = created(scratch);
  atRest.save(FIRST);
  await writeFile(join(path, 'notes'), 'not ours');
  t.equal(await rejectionOf(atRest.destroy()), 'destroy: ENOTEMPTY');
  t.same(await readdir(path), ['notes'], 'the vTPM is gone, the foreign file is not');
});

void test('while it is destroyed nothing else is done', async (t) => {
  const { atRest } = created(t.testdir());
  atRest.save(FIRST);
  const destroyed = atRest.destroy();
  t.equal(
    refusalOf(() => atRest.save(FIRST)),
    'save: it is being destroyed',
  );
  t.equal(
    refusalOf(() => atRest.create()),
    'create: it is being destroyed',
  );
  t.equal(await rejectionOf(atRest.destroy()), 'destroy: it is being destroyed');
  t.match(await destroyed, { filesDestroyed: 2 });
  atRest.create();
  t.equal(
    refusalOf(() => atRest.load()),
    'load: ENOENT',
  );
});
