/** The flags of `migd`. */
import yargs from 'yargs';
import { MigError } from '../protocol/error.ts';
import type { Given } from './config.ts';

export interface CommandLine {
  readonly flags: Given;
  readonly file: string | undefined;
  /** Validate and exit. */
  readonly check: boolean;
}

/** Throws USAGE. Prints and exits itself for `--help` and `--version`. */
export async function readCommandLine(
  args: readonly string[],
  version: string,
): Promise<CommandLine> {
  const given = await yargs([...args])
    .scriptName('migd')
    .usage('$0 [--role source|dest|both]: moves virtual machines between hosts')
    .option('role', {
      choices: ['source', 'dest', 'both'] as const,
      describe: 'what this host does',
    })
    .option('name', { type: 'string', describe: 'name of this host, as in its certificate' })
    .option('listen', { type: 'string', describe: 'ADDRESS:PORT for hosts and operators' })
    .option('peer', { type: 'string', array: true, describe: 'NAME=ADDRESS:PORT of another host' })
    .option('certs', { type: 'string', describe: 'folder of certificates (default certs)' })
    .option('state-dir', { type: 'string', describe: 'folder of this daemon (default state/NAME)' })
    .option('memory-dir', { type: 'string', describe: 'folder on tmpfs for guests’ memory' })
    .option('metrics', { type: 'string', describe: 'ADDRESS:PORT on loopback for /metrics' })
    .option('log-level', { choices: ['trace', 'debug', 'info', 'warn', 'error'] as const })
    .option('pretty', { type: 'boolean', describe: 'a log for people' })
    .option('config', { type: 'string', describe: 'YAML file; flags and MIGD_… override it' })
    .option('check', { type: 'boolean', default: false, describe: 'validate and exit' })
    .version(version)
    .strict()
    .exitProcess(true)
    .fail((message: string | null, error: Error | undefined) => {
      throw new MigError('USAGE', message ?? error?.message ?? '');
    })
    .parseAsync();
  const { role, name, listen, certs, stateDir, memoryDir, metrics, logLevel, pretty } = given;
  const chosen = { role, name, listen, certs, stateDir, memoryDir, metrics, logLevel, pretty };
  const flags = Object.fromEntries(
    Object.entries(chosen).filter(([, value]) => value !== undefined),
  ) as Given;
  const peers = given.peer === undefined ? {} : { peers: Object.fromEntries(given.peer.map(pair)) };
  return { flags: { ...flags, ...peers }, file: given.config, check: given.check };
}

function pair(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at < 1) throw new MigError('USAGE', `--peer ${text}: expected NAME=ADDRESS:PORT`);
  return [text.slice(0, at), text.slice(at + 1)];
}
