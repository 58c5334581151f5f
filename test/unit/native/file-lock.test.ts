/** The lock of a state directory: one holder, gone with its process. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { test } from 'tap';
import { FileLock } from '../../../src/native/file-lock.ts';

const LOCK = new URL('../../../src/native/file-lock.ts', import.meta.url).href;

/** Another process that takes the lock, says so, and holds it. */
const HOLDER = `
const { FileLock } = await import(process.argv[1]);
new FileLock(process.argv[2]);
console.log('held');
setInterval(() => undefined, 1000);
`;

void test('one holder at a time, and again when it lets go', async (t) => {
  const file = path.join(t.testdir(), 'lock');
  const first = new FileLock(file);
  t.throws(() => new FileLock(file), { code: 'DAEMON_RUNNING', detail: file });
  first[Symbol.dispose]();
  using _second = new FileLock(file);
  t.throws(() => new FileLock(file), { code: 'DAEMON_RUNNING' });
});

void test('a killed process holds it no more', async (t) => {
  const file = path.join(t.testdir(), 'lock');
  const holder = spawn(process.execPath, ['--input-type=module', '--eval', HOLDER, LOCK, file], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(holder, 'exit');
  await once(holder.stdout, 'data');
  t.throws(() => new FileLock(file), { code: 'DAEMON_RUNNING' });
  holder.kill('SIGKILL');
  await exited;
  using _lock = new FileLock(file);
});
