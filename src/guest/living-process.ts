/**
 * The processes that a guest is, as the operating system shows them, whoever started them: each has
 * the guest's memory folder as its working folder, so that a later daemon knows them again.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { GUEST_QUIT_MS_MAX } from '../base/limits.ts';

/** A process that is known again: numbers of processes are used again, start times with them are not. */
export interface KnownProcess {
  readonly pid: number;
  readonly startTime: string;
}

/** The process `pid`, if it is the guest that lives in `memoryDir`: that is its working folder. */
export function findGuest(pid: number, memoryDir: string): KnownProcess | undefined {
  try {
    const cwd = readlinkSync(`/proc/${pid}/cwd`);
    const folder = realPathOf(memoryDir);
    // A folder that was removed under it makes a process no less alive.
    if (cwd !== folder && cwd !== `${folder} (deleted)`) return undefined;
    const startTime = statOf(pid)?.startTime;
    return startTime === undefined ? undefined : { pid, startTime };
  } catch {
    return undefined;
  }
}

/** Of a folder that need not exist any more. */
function realPathOf(directory: string): string {
  try {
    return realpathSync(directory);
  } catch {
    const parent = path.dirname(path.resolve(directory));
    return path.join(existsSync(parent) ? realpathSync(parent) : parent, path.basename(directory));
  }
}

/** The guest that lives in `memoryDir`, whatever its number; none is the proof that it is gone. */
export function guestIn(memoryDir: string): KnownProcess | undefined {
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    const found = Number.isInteger(pid) ? findGuest(pid, memoryDir) : undefined;
    if (found !== undefined && isRunning(found)) return found;
  }
  return undefined;
}

/** Waits for the end of a process, which need not be our child; kills it after a limit. */
export async function processGone(known: KnownProcess): Promise<void> {
  const deadline = performance.now() + GUEST_QUIT_MS_MAX;
  while (isRunning(known)) {
    if (performance.now() > deadline) signal(known, 'SIGKILL');
    await new Promise((resolve) => {
      setTimeout(resolve, 1);
    });
  }
}

/** Asks a process to end, or makes it; one that has just gone is none the worse for it. */
export function signal({ pid }: KnownProcess, name: 'SIGTERM' | 'SIGKILL'): void {
  try {
    process.kill(pid, name);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ESRCH') throw thrown;
  }
}

/** Whether any thread of it is left, and with it its memory; a zombie without threads has none. */
export function isRunning({ pid, startTime }: KnownProcess): boolean {
  const stat = statOf(pid);
  if (stat?.startTime !== startTime) return false;
  return stat.state !== 'Z' || stat.threads > 1;
}

/** State, threads and start time from /proc/PID/stat (proc(5): fields 3, 20, 22). */
function statOf(pid: number): { state: string; threads: number; startTime: string } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name, field 2, is in parentheses and may hold anything.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', threads: Number(fields[17]), startTime: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}
