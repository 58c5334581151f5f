/** The options that every command takes, and their defaults from the environment (`MIGD_…`). */
import type { Argv } from 'yargs';
import type { ApiClient } from './api-client.ts';
import { findDaemon, type Whereabouts } from './find-daemon.ts';

export interface Common extends Whereabouts {
  readonly json: boolean;
}

export const withCommonOptions = (cli: Argv, environment: NodeJS.ProcessEnv): Argv<Common> =>
  cli
    .option('json', { type: 'boolean', default: false, describe: 'JSON on standard output' })
    .option('host', {
      type: 'string',
      default: environment['MIGD_HOST'],
      describe: 'NAME, ADDRESS or ADDRESS:PORT of the host whose daemon is asked',
    })
    .option('socket', {
      type: 'string',
      default: environment['MIGD_SOCKET'],
      describe: 'Unix socket of the local daemon (default: found in state/)',
    })
    .option('state-dir', {
      type: 'string',
      default: environment['MIGD_STATE_DIR'],
      describe: 'state directory of the local daemon',
    })
    .option('certs', {
      type: 'string',
      default: environment['MIGD_CERTS'] ?? 'certs',
      describe: 'folder of certificates',
    })
    .option('operator', {
      type: 'string',
      default: environment['MIGD_OPERATOR'] ?? 'operator',
      describe: 'name of the certificate shown to a remote daemon',
    });

/** Finds the daemon, does `work` with it, and lets go of it. Throws what both throw. */
export async function withDaemon<T>(
  where: Whereabouts,
  work: (client: ApiClient) => Promise<T>,
): Promise<T> {
  const client = await findDaemon(where);
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

/** Prints `value` as JSON, or `text` made of it for people. */
export function print<T>({ json }: Common, value: T, text: (shown: T) => string): void {
  console.log(json ? JSON.stringify(value) : text(value));
}
