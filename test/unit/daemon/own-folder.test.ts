/** A folder that somebody else could change is not used. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import { makeMemoryFolder, makeOwnFolder } from '../../../src/daemon/own-folder.ts';

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

const isOnTmpfs = (folder: string): boolean => statfsSync(folder).type === 0x01021994;

void test('guest memory lives on tmpfs and nowhere else', async (t) => {
  // Of these, at least one is on a disk wherever this runs.
  for (const folder of [t.testdir(), '/var/tmp'].filter((one) => !isOnTmpfs(one))) {
    const onDisk = path.join(folder, `migd-memory-${process.pid}`);
    t.throws(() => makeMemoryFolder(onDisk), { code: 'CONFIG_INVALID' });
    t.notOk(existsSync(onDisk), 'nothing is left of the try');
  }

  const onTmpfs = mkdtempSync('/dev/shm/migd-memory-');
  t.teardown(() => rmSync(onTmpfs, { recursive: true }));
  makeMemoryFolder(path.join(onTmpfs, 'guests'));
  t.ok(existsSync(path.join(onTmpfs, 'guests')));
});
