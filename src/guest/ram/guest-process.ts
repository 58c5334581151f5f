/**
 * The process of an embedded guest: starting it, making it one VM's. What it does is in `process/`.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { getCompileCacheDir } from 'node:module';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { GUEST_START_MS_MAX, GUEST_WORD_CHARS_MAX } from '../../base/limits.ts';
import { MigError } from '../../protocol/error.ts';

const here = import.meta.url;
const MAIN = fileURLToPath(new URL(`process/main${here.slice(here.lastIndexOf('.'))}`, here));

/** What the process says once. */
const wordSchema = z.union([
  z.strictObject({ ready: z.literal(true) }),
  z.strictObject({ code: z.string().max(64), detail: z.string() }),
]);

/** A process that waits to be told which VM it is. */
export class GuestProcess {
  readonly #child: ChildProcess;
  readonly #input: Socket;
  readonly #words: Socket;
  /** For its rehearsal: it makes and removes it. */
  readonly #scratchDir = path.join(tmpdir(), `migd-rehearsal-${randomUUID()}`);

  /** Does not keep this process alive, and ends by itself with it. */
  constructor() {
    // A session of its own and its own environment: it outlives the daemon and inherits nothing but code.
    this.#child = spawn(process.execPath, [MAIN, this.#scratchDir], {
      detached: true,
      env: { NODE_COMPILE_CACHE: getCompileCacheDir() },
      stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
    });
    this.#child.on('error', () => undefined);
    const [input, , , words] = this.#child.stdio;
    if (!(input instanceof Socket) || !(words instanceof Socket)) throw new Error('no pipes');
    this.#input = input;
    this.#words = words;
    input.on('error', () => undefined);
    for (const each of [this.#child, input, words]) each.unref();
  }

  get isAlive(): boolean {
    const { pid, exitCode, signalCode } = this.#child;
    return pid !== undefined && exitCode === null && signalCode === null;
  }

  /**
   * Makes it the guest of a configuration; resolves to its pid when it is ready. Throws the guest's own
   * coded error, GUEST_FAILED, GUEST_SILENT; the process is then gone.
   */
  async assign(configPath: string): Promise<number> {
    try {
      this.#words.ref();
      this.#input.write(`${configPath}\n`);
      const word = await this.#firstWord();
      if (!('ready' in word)) throw MigError.named(word.code, word.detail, 'GUEST_FAILED');
      if (this.#child.pid === undefined) throw new MigError('GUEST_FAILED', 'it has no process');
      // From here it lives on its own.
      this.#input.end();
      return this.#child.pid;
    } catch (thrown) {
      this.#child.kill('SIGKILL');
      throw MigError.from(thrown, 'GUEST_FAILED');
    }
  }

  /** Ends it; resolves when it is gone. Not for one that was assigned. */
  async end(): Promise<void> {
    if (this.isAlive) {
      this.#child.ref();
      const exited = once(this.#child, 'exit');
      // It may still load its code: it is not waited for.
      this.#child.kill('SIGKILL');
      await exited;
    }
    rmSync(this.#scratchDir, { recursive: true, force: true });
  }

  /** What the process says on its descriptor 3 before it closes it. */
  async #firstWord(): Promise<z.infer<typeof wordSchema>> {
    const timer = setTimeout(
      () => this.#words.destroy(new MigError('GUEST_SILENT', 'it did not start')),
      GUEST_START_MS_MAX,
    );
    try {
      let text = '';
      for await (const chunk of this.#words) {
        text += String(chunk);
        if (text.length > GUEST_WORD_CHARS_MAX) throw new MigError('GUEST_FAILED', 'it babbles');
      }
      if (text === '') throw new MigError('GUEST_FAILED', 'it ended before it was ready');
      return wordSchema.parse(JSON.parse(text));
    } finally {
      clearTimeout(timer);
    }
  }
}
