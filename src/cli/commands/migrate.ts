/** `migctl migrate`: moves a VM and shows how it goes. Ctrl-C cancels; once more, it only leaves. */
import type { Argv } from 'yargs';
import type { MigrationEvent, Outcome } from '../../migration/report.ts';
import { EXIT, type Code } from '../../protocol/codes.ts';
import { MigError } from '../../protocol/error.ts';
import {
  ALL_SUITE_NAMES,
  CHANNEL_FORMS,
  CHANNELS_MAX,
  MODES,
  ON_TIMEOUT,
  PRIORITY_MAX,
} from '../../protocol/options.ts';
import type { ApiClient, Asked } from '../api-client.ts';
import { print, withDaemon, type Common } from '../options.ts';
import { follower } from '../progress/follow.ts';
import { explained } from '../progress/summary.ts';
import { parseDuration, parseRate } from '../quantities.ts';

const migrateOptions = (cli: Argv<Common>) =>
  cli
    .positional('vm', { type: 'string', demandOption: true })
    .option('to', { type: 'string', demandOption: true, describe: 'destination host' })
    .option('mode', {
      choices: MODES,
      default: 'pre-copy' as const,
      describe: 'whether pages go before the VM runs there, after, or as many before as helps',
    })
    .option('downtime-limit', {
      type: 'string',
      default: '50ms',
      describe: 'stop-and-copy begins when what remains fits into this',
    })
    .option('verify', {
      type: 'boolean',
      describe:
        'compare a digest of every page on both sides; adds to the downtime (default: as the daemon is configured)',
    })
    .option('max-bandwidth', {
      type: 'string',
      describe: 'such as 10Gbit or 500MB',
    })
    .option('priority', {
      type: 'number',
      default: 5,
      describe: `0 to ${PRIORITY_MAX}: of those that wait at the source the higher goes first`,
    })
    .option('timeout', {
      type: 'string',
      describe: 'such as 5m; then what --on-timeout says',
    })
    .option('on-timeout', {
      choices: ON_TIMEOUT,
      default: 'cancel' as const,
      describe:
        'the VM stays; or is stopped and moved whatever the downtime (pause); or runs on there while the rest follows (post-copy)',
    })
    .option('deadline', {
      type: 'string',
      describe: 'such as 30s: the VM is to run at the destination then, not much sooner or later',
    })
    .option('auto-converge', {
      type: 'boolean',
      describe:
        'throttle a guest that writes faster than can be sent (default: as the daemon is configured)',
    })
    .option('rounds', {
      type: 'number',
      default: 30,
      describe: 'pre-copy gives up after so many; with --on-timeout pause it stops the guest',
    })
    .option('channels', { type: 'number', default: 1, describe: `1 to ${CHANNELS_MAX}` })
    .option('suite', {
      choices: ALL_SUITE_NAMES,
      describe: 'of ciphers (default: the best of both)',
    })
    .option('form', {
      choices: CHANNEL_FORMS,
      describe: 'of data channels: sealed records inside TLS, or straight on TCP',
    })
    .option('detach', { type: 'boolean', default: false, describe: 'do not wait for the end' });

export const migrateCommand = (cli: Argv<Common>): Argv<Common> =>
  cli.command(
    'migrate <vm>',
    'moves a running VM to another host',
    migrateOptions,
    async (argv) => {
      const { maxBandwidth, timeout, deadline, autoConverge } = argv;
      const request: Asked<'migrate'> = {
        vm: argv.vm,
        to: argv.to,
        mode: argv.mode,
        downtimeLimitMs: parseDuration(argv.downtimeLimit),
        ...(argv.verify === undefined ? {} : { verify: argv.verify }),
        ...(maxBandwidth === undefined ? {} : { maxBandwidthBps: parseRate(maxBandwidth) }),
        ...(timeout === undefined ? {} : { timeoutMs: parseDuration(timeout) }),
        onTimeout: argv.onTimeout,
        ...(deadline === undefined ? {} : { deadlineMs: parseDuration(deadline) }),
        ...(autoConverge === undefined ? {} : { autoConverge }),
        priority: argv.priority,
        channels: argv.channels,
        ...(argv.suite === undefined ? {} : { suite: argv.suite }),
        ...(argv.form === undefined ? {} : { form: argv.form }),
        roundsMax: argv.rounds,
        detach: argv.detach,
      };
      try {
        process.exitCode = await withDaemon(argv, (client) => migrate(client, request, argv));
      } catch (thrown) {
        const error = MigError.from(thrown);
        const outcome = error.entry.exit === EXIT.refused ? 'refused' : 'failed';
        if (argv.json) printUntold(request, null, outcome, error);
        throw error;
      }
    },
  );

async function migrate(
  client: ApiClient,
  request: Asked<'migrate'>,
  common: Common,
): Promise<number> {
  const view = follower(common.json, process.stdout);
  const interrupt = new Interrupt(client);
  const hear = (event: MigrationEvent) => {
    interrupt.hear(event);
    view.hear(event);
  };
  try {
    const answer = await Promise.race([client.ask('migrate', request, hear), interrupt.left]);
    if (answer === 'left') return untold(common, request, interrupt, NOBODY_WAITED);
    return 'event' in answer ? view.end(answer) : detached(common, answer);
  } catch (thrown) {
    const error = MigError.from(thrown);
    if (error.code !== 'NO_DAEMON' || interrupt.migrationId === undefined) throw error;
    return untold(common, request, interrupt, error);
  } finally {
    interrupt[Symbol.dispose]();
  }
}

function detached(common: Common, started: { readonly migrationId: string }): number {
  print(common, started, ({ migrationId }) => `${migrationId}: see \`migctl watch\``);
  return EXIT.completed;
}

/** The end of a migration that nobody told us of. */
interface Untold {
  readonly code: Code | null;
  readonly detail: string;
}

const NOBODY_WAITED: Untold = { code: null, detail: 'left to the daemon' };

/** It began, and may go on: only the daemon knows. */
function untold(
  { json }: Common,
  request: Asked<'migrate'>,
  { migrationId }: Interrupt,
  why: Untold,
): number {
  if (json) printUntold(request, migrationId ?? null, 'in-doubt', why);
  if (why.code !== null) console.error(explained(why.code, why.detail).join('\n'));
  console.error(`how it ended only the daemon knows: \`migctl status ${migrationId ?? ''}\``);
  return EXIT.inDoubt;
}

/** The last line of `--json` is a result also where no daemon gave one. */
function printUntold(
  { vm, to }: Asked<'migrate'>,
  migrationId: string | null,
  outcome: Outcome,
  { code, detail }: Untold,
): void {
  console.log(JSON.stringify({ event: 'result', migrationId, vm, to, outcome, code, detail }));
}

/** Ctrl-C: the first asks the daemon to cancel, the second lets go of it. */
class Interrupt {
  readonly left: Promise<'left'>;
  readonly #client: ApiClient;
  readonly #onSignal: () => void;
  migrationId: string | undefined;
  #asked = false;

  constructor(client: ApiClient) {
    this.#client = client;
    const left = Promise.withResolvers<'left'>();
    this.left = left.promise;
    this.#onSignal = () => {
      if (this.#asked) left.resolve('left');
      else this.#cancel();
    };
    process.on('SIGINT', this.#onSignal);
  }

  hear(event: MigrationEvent): void {
    if (event.event !== 'started' && event.event !== 'queued') return;
    const isNew = this.migrationId === undefined;
    this.migrationId = event.migrationId;
    if (!isNew) return;
    if (this.#asked) this.#send(event.migrationId);
  }

  [Symbol.dispose](): void {
    process.off('SIGINT', this.#onSignal);
  }

  #cancel(): void {
    this.#asked = true;
    console.error('cancelling; Ctrl-C again leaves it to the daemon');
    if (this.migrationId !== undefined) this.#send(this.migrationId);
  }

  #send(migrationId: string): void {
    // What comes of it is told by the result.
    this.#client.ask('cancel', { migrationId }).catch((thrown: unknown) => {
      const { code, detail } = MigError.from(thrown);
      if (code !== 'NO_DAEMON') console.error(explained(code, detail).join('\n'));
    });
  }
}
