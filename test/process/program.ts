/**
 * A program as a user runs it, in a process group of its own: what it writes, line by line, and how it
 * ended. Nothing is waited for but its words and its end.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** A program that hangs is ended, so that the test says where. Nothing takes this long. */
const LIFE_MS_MAX = 100_000;

export interface ProgramOptions {
  readonly cwd?: string;
  /** On top of PATH, which alone is passed on. */
  readonly env?: Readonly<Record<string, string>>;
  /** An input that stays open as long as this process lives; otherwise it is at its end. */
  readonly input?: boolean;
}

export interface Ended {
  readonly exit: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

export class Program {
  readonly #child: ChildProcess;
  readonly #out = new Heard();
  readonly #err = new Heard();
  /** Settled when it has ended and all it wrote is read. */
  readonly ended: Promise<Ended>;

  constructor(command: readonly string[], { cwd, env = {}, input = false }: ProgramOptions = {}) {
    const [file = '', ...args] = command;
    this.#child = spawn(file, args, {
      cwd,
      env: { PATH: process.env['PATH'], ...env },
      stdio: [input ? 'pipe' : 'ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.#child.stdout?.on('data', (data: Buffer) => this.#out.add(String(data)));
    this.#child.stderr?.on('data', (data: Buffer) => this.#err.add(String(data)));
    const limit = setTimeout(() => this.signalGroup('SIGKILL'), LIFE_MS_MAX);
    this.ended = once(this.#child, 'close').then((ended) => {
      clearTimeout(limit);
      const [exit, signal] = ended as [number | null, NodeJS.Signals | null];
      const texts = { out: this.#out.text, err: this.#err.text };
      this.#out.end();
      this.#err.end();
      return { exit, signal, ...texts };
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('it did not start');
    return this.#child.pid;
  }

  /** What stands on standard output; see {@link Heard.until}. */
  said(pattern: RegExp): Promise<RegExpExecArray> {
    return this.#out.until(pattern);
  }

  complained(pattern: RegExp): Promise<RegExpExecArray> {
    return this.#err.until(pattern);
  }

  /** To the process alone. */
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** To every process of its group, as Ctrl-C at a terminal is. */
  signalGroup(signal: NodeJS.Signals): void {
    process.kill(-this.pid, signal);
  }

  /** For the end of a test, whatever became of it. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.signalGroup('SIGKILL');
    } catch {
      // All of it has ended by itself.
    }
    await this.ended;
  }
}

/** A stream so far, and whoever waits for a pattern in it. */
class Heard {
  text = '';
  readonly #waiting = new Set<{
    readonly pattern: RegExp;
    readonly found: (match: RegExpExecArray) => void;
    readonly missed: (error: Error) => void;
  }>();

  add(more: string): void {
    this.text += more;
    for (const each of this.#waiting) {
      const match = each.pattern.exec(this.text);
      if (match === null) continue;
      this.#waiting.delete(each);
      each.found(match);
    }
  }

  end(): void {
    for (const { pattern, missed } of this.#waiting) {
      missed(new Error(`never said ${String(pattern)}: ${this.text}`));
    }
    this.#waiting.clear();
  }

  /** Resolves when it has been said; rejects when the program ends without saying it. */
  until(pattern: RegExp): Promise<RegExpExecArray> {
    const already = pattern.exec(this.text);
    if (already !== null) return Promise.resolve(already);
    return new Promise((found, missed) => {
      this.#waiting.add({ pattern, found, missed });
    });
  }
}

/** Processes whose command line or working folder has `text` in it. */
export const processesNaming = (text: string): number[] =>
  readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid && names(pid, text));

function names(pid: number, text: string): boolean {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return words.includes(text) || readlinkSync(`/proc/${pid}/cwd`).includes(text);
  } catch {
    // It has ended, or is the kernel's.
    return false;
  }
}
