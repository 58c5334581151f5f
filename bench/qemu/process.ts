/** A QEMU process with a guest of test/qemu/: under TCG, a monitor, a console in a file, no devices. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { KiB } from '../../src/base/units.ts';
import { QmpClient, type QmpArguments } from '../../src/guest/qemu/qmp.ts';
import {
  guestCommandLine,
  guestImage,
  guestLines,
  type Filling,
  type GuestLine,
} from '../../test/qemu/guest-image.ts';

const READY_MS = 60_000;
const LOOK_MS = 5;

export interface QemuSpec {
  readonly memoryBytes: number;
  readonly filling: Filling;
}

export class QemuProcess {
  readonly #child: ChildProcess;
  readonly #console: string;
  readonly #monitor: QmpClient;

  private constructor(child: ChildProcess, console: string, monitor: QmpClient) {
    this.#child = child;
    this.#console = console;
    this.#monitor = monitor;
  }

  /** `name`: of its files in `dir`. `isIncoming`: waits to be told where its guest comes from. */
  static async start(
    dir: string,
    name: string,
    { memoryBytes, filling }: QemuSpec,
    isIncoming: boolean,
  ): Promise<QemuProcess> {
    const { kernel, initrd } = guestImage();
    const [monitor, output] = ['qmp', 'console'].map((kind) => path.join(dir, `${name}.${kind}`));
    if (monitor === undefined || output === undefined) throw new Error('no files');
    const options = {
      M: 'q35',
      accel: 'tcg',
      cpu: 'max',
      m: `${memoryBytes / KiB}K`,
      display: 'none',
      kernel,
      initrd,
      append: guestCommandLine(filling),
      serial: `file:${output}`,
      qmp: `unix:${monitor},server=on,wait=off`,
      ...(isIncoming ? { incoming: 'defer' } : {}),
    };
    const words = Object.entries(options).flatMap(([key, value]) => [`-${key}`, value]);
    const args = ['-nodefaults', '-no-reboot', ...words];
    const child = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'ignore', 'inherit'] });
    try {
      return new QemuProcess(child, output, await listening(child, monitor));
    } catch (thrown) {
      child.kill('SIGKILL');
      throw thrown;
    }
  }

  ask<S extends z.ZodType>(command: string, args: QmpArguments, schema: S): Promise<z.output<S>> {
    return this.#monitor.execute(command, args, schema);
  }

  async tell(command: string, args: QmpArguments = {}): Promise<void> {
    await this.#monitor.execute(command, args, z.unknown());
  }

  /** The guest's next line: it says one ten times a second. Throws when it says none. */
  async nextLine(): Promise<GuestLine> {
    const count = this.#lines.length;
    const giveUpAt = performance.now() + READY_MS;
    while (performance.now() < giveUpAt && this.#child.exitCode === null) {
      const last = this.#lines.slice(count).at(-1);
      if (last !== undefined) return last;
      await sleep(LOOK_MS);
    }
    throw new Error('a guest of QEMU says nothing');
  }

  get #lines(): readonly GuestLine[] {
    return existsSync(this.#console) ? guestLines(readFileSync(this.#console, 'latin1')) : [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#monitor.close();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }
}

/** Its monitor: the socket is there a moment before anybody listens. */
async function listening(child: ChildProcess, monitor: string): Promise<QmpClient> {
  const giveUpAt = performance.now() + READY_MS;
  for (;;) {
    try {
      return await QmpClient.connect(monitor);
    } catch (thrown) {
      if (child.exitCode !== null || performance.now() > giveUpAt) throw thrown;
      await sleep(LOOK_MS);
    }
  }
}
