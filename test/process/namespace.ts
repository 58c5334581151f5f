/** A network of a test's own: the default ports are free in it, and nobody else listens. */
import { spawnSync } from 'node:child_process';
import { Program, type ProgramOptions } from './program.ts';

/** Brings loopback up and keeps the namespace as long as somebody holds its input. */
const HOLD = 'ip link set lo up && echo up && exec cat';

export class NetworkNamespace {
  readonly #holder: Program;

  private constructor(holder: Program) {
    this.#holder = holder;
  }

  static async make(): Promise<NetworkNamespace> {
    const holder = new Program(['unshare', '--net', 'sh', '-c', HOLD], { input: true });
    await holder.said(/^up$/m);
    return new NetworkNamespace(holder);
  }

  run(command: readonly string[], options: ProgramOptions): Program {
    return new Program(
      ['nsenter', `--net=/proc/${this.#holder.pid}/ns/net`, '--', ...command],
      options,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#holder[Symbol.asyncDispose]();
  }
}

/** What is missing here to make one, if anything is; a failure where all must be there. */
export function missingForNamespaces(): string | false {
  const missing = whatIsMissing();
  if (missing !== undefined && process.env['MIGD_REQUIRE_ALL'] === '1') throw new Error(missing);
  return missing ?? false;
}

function whatIsMissing(): string | undefined {
  for (const [command, debianPackage] of [
    ['ip', 'iproute2'],
    ['unshare', 'util-linux'],
  ] as const) {
    if (spawnSync(command, ['-V']).error !== undefined) return `missing: ${debianPackage}`;
  }
  const { status } = spawnSync('unshare', ['--net', 'true']);
  return status === 0 ? undefined : 'missing: the right to make a network namespace (root)';
}
