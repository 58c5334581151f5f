/** Descriptors of this process: where its output goes (dup2, unistd.h). */
import { closeSync, openSync } from 'node:fs';
import { checked, libc } from './libc.ts';

const dup2 = libc.func('int dup2(int from, int to)');
const STDOUT = 1;
const STDERR = 2;

/** From now on whatever this process prints is appended to `file`, made with mode 0600. */
export function redirectOutput(file: string): void {
  const fd = openSync(file, 'a', 0o600);
  try {
    checked('dup2', dup2(fd, STDOUT));
    checked('dup2', dup2(fd, STDERR));
  } finally {
    closeSync(fd);
  }
}
