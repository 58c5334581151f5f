/** A disk that fails in the commit itself, for processes that preload it (failing-disk.c). */
import { execFileSync, spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('failing-disk.c', import.meta.url));

const hasCompiler = spawnSync('gcc', ['--version']).error === undefined;
export const skipUnlessCompiling =
  !hasCompiler && process.env['MIGD_REQUIRE_ALL'] !== '1' ? 'missing: gcc' : false;

export interface FailingDisk {
  /** While this file is there, it fails. */
  readonly file: string;
  /** For the processes on it. */
  readonly env: Readonly<Record<string, string>>;
}

/** Compiles it into `dir`. */
export function failingDisk(dir: string): FailingDisk {
  const library = path.join(dir, 'failing-disk.so');
  execFileSync('gcc', ['-shared', '-fPIC', '-o', library, SOURCE]);
  const file = path.join(dir, 'failing');
  return { file, env: { LD_PRELOAD: library, FAIL_FILE: file } };
}
