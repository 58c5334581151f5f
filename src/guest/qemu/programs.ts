/** QEMU and swtpm as programs of this host: which versions there are, starting them, waiting for them. */
import { execFile, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import {
  GUEST_DETAIL_CHARS_MAX,
  GUEST_START_MS_MAX,
  QEMU_VERSION_MS_MAX,
} from '../../base/limits.ts';
import { MigError } from '../../protocol/error.ts';
import type { QemuVersion } from './qmp-messages.ts';

export const QEMU = 'qemu-system-x86_64';
export const SWTPM = 'swtpm';

/** The oldest that this was tested with. */
const OLDEST = { [QEMU]: [7, 2], [SWTPM]: [0, 7] } as const;
type Name = keyof typeof OLDEST;

/** Between two looks at a program that is about to listen. */
const LOOK_PAUSE_MS = 10;

const run = promisify(execFile);

/** Throws QEMU_UNUSABLE when it is not there, does not say its version, or is too old. */
export async function probe(program: Name): Promise<QemuVersion> {
  const [oldestMajor, oldestMinor] = OLDEST[program];
  const wanted = `${oldestMajor}.${oldestMinor} is the oldest that will do`;
  const said = await run(program, ['--version'], { timeout: QEMU_VERSION_MS_MAX }).catch(
    (cause: Error) => {
      throw new MigError('QEMU_UNUSABLE', `${program}: ${cause.message}`, { cause });
    },
  );
  const found = /\bversion (\d{1,4})\.(\d{1,4})\.(\d{1,4})\b/.exec(said.stdout);
  if (found === null) throw new MigError('QEMU_UNUSABLE', `${program}: no version; ${wanted}`);
  const [major = 0, minor = 0, micro = 0] = found.slice(1).map(Number);
  if (major < oldestMajor || (major === oldestMajor && minor < oldestMinor)) {
    throw new MigError('QEMU_UNUSABLE', `${program} ${major}.${minor}.${micro}: ${wanted}`);
  }
  return { major, minor, micro };
}

/** One that was started. */
export interface Started {
  readonly pid: number;
  /** How it ended, once it has; undefined while it lives. */
  readonly ended: () => string | undefined;
}

/**
 * Starts a program that outlives this process, in a session of its own, with `folder` as its working
 * folder; what it writes goes to the end of `logPath`. Throws GUEST_FAILED.
 */
export function start(
  program: Name,
  args: readonly string[],
  { folder, logPath }: { readonly folder: string; readonly logPath: string },
): Started {
  const log = openSync(logPath, 'a', 0o600);
  try {
    const env = { PATH: process.env['PATH'] };
    const stdio = ['ignore', log, log] as const;
    const child = spawn(program, args, { cwd: folder, detached: true, env, stdio: [...stdio] });
    let end: string | undefined;
    child.on('error', ({ message }) => (end = message));
    child.on('exit', (status, signal) => (end = `${program} ended: ${signal ?? status}`));
    child.unref();
    if (child.pid === undefined) throw new MigError('GUEST_FAILED', `${program} does not start`);
    return { pid: child.pid, ended: () => end };
  } finally {
    closeSync(log);
  }
}

/**
 * Tries until it succeeds, for as long as the program lives and may take to start. Throws GUEST_FAILED
 * with its last words when it ends, GUEST_SILENT when it takes longer.
 */
export async function whenReady<T>(
  started: Started,
  logPath: string,
  attempt: (leftMs: number) => Promise<T>,
): Promise<T> {
  const deadline = performance.now() + GUEST_START_MS_MAX;
  for (;;) {
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) throw new MigError('GUEST_SILENT', 'it did not start');
    try {
      return await attempt(leftMs);
    } catch {
      const ended = started.ended();
      if (ended !== undefined) {
        throw new MigError('GUEST_FAILED', `${ended}; ${lastWords(logPath)}`);
      }
      await delay(LOOK_PAUSE_MS);
    }
  }
}

/** Resolves when somebody listens on a Unix socket. */
export const listens = (path: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve();
    });
    socket.once('error', reject);
  });

const lastWords = (logPath: string): string =>
  readFileSync(logPath, 'utf8').trim().slice(-GUEST_DETAIL_CHARS_MAX).replaceAll('\n', '; ');
