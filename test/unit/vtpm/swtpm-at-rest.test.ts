/** The folder of a swtpm: made closed, destroyed without a rest, the key first. */
import {
  existsSync,
  linkSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'tap';
import { destroySwtpm, makeSwtpmFolder, SWTPM_KEY } from '../../../src/vtpm/swtpm-at-rest.ts';

void test('made and destroyed', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'migd-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const folder = path.join(dir, 'swtpm');
  const asked: number[] = [];
  const random = {
    bytes: (count: number) => {
      asked.push(count);
      return new Uint8Array(count).fill(asked.length);
    },
  };

  makeSwtpmFolder(folder, random);
  t.equal(statSync(folder).mode & 0o777, 0o700);
  t.equal(statSync(path.join(folder, SWTPM_KEY)).mode & 0o777, 0o600);
  t.same(readFileSync(path.join(folder, SWTPM_KEY)), Buffer.alloc(32, 1));
  t.throws(() => makeSwtpmFolder(folder, random), 'a key is never replaced');

  const state = path.join(folder, 'a-state');
  writeFileSync(state, Buffer.alloc(1000, 9));
  // A second name keeps what the first one's file became.
  linkSync(state, path.join(dir, 'state'));
  linkSync(path.join(folder, SWTPM_KEY), path.join(dir, 'key'));
  await destroySwtpm(folder, random);
  t.equal(existsSync(folder), false);
  t.same(readFileSync(path.join(dir, 'key')), Buffer.alloc(32, 2), 'first');
  t.same(readFileSync(path.join(dir, 'state')), Buffer.alloc(1000, 3));
  t.same(asked, [32, 32, 1000]);

  await destroySwtpm(folder, random);
  t.same(asked, [32, 32, 1000], 'again: nothing');
});
