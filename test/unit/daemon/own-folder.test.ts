/** A folder that somebody else could change is not used. */
import { chmodSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import { makeOwnFolder } from '../../../src/daemon/own-folder.ts';

void test('makeOwnFolder', (t) => {
  const at = (name: string) => path.join(t.testdirName, name);
  t.testdir();

  makeOwnFolder(at('new/inner'));
  t.equal(statSync(at('new/inner')).mode & 0o777, 0o700, 'made for us alone');
  makeOwnFolder(at('new/inner'));
  symlinkSync('new/inner', at('link'));
  makeOwnFolder(at('link'));

  for (const mode of [0o770, 0o707, 0o777]) {
    mkdirSync(at(`open-${mode}`));
    chmodSync(at(`open-${mode}`), mode);
    t.throws(() => makeOwnFolder(at(`open-${mode}`)), { code: 'CONFIG_INVALID' }, String(mode));
  }
  t.throws(() => makeOwnFolder('/proc/1/fdinfo/x'), { code: 'STORE_FAILED' }, 'cannot be made');
  writeFileSync(at('file'), '');
  t.throws(() => makeOwnFolder(at('file')), { code: 'STORE_FAILED' }, 'a file');

  if (process.getuid?.() !== 0) {
    t.throws(() => makeOwnFolder('/'), { code: 'CONFIG_INVALID' }, 'the system’s');
  }
  t.end();
});
