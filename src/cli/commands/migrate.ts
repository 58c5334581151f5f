/** `migctl migrate`: moves a VM and shows how it goes. Ctrl-C cancels; once more, it only leaves. */
import type { Argv } from 'yargs';
import type { MigrationEvent } from '../../migration/report.ts';
import { EXIT } from '../../protocol/codes.ts';
import { MigError } from '../../protocol/error.ts';
import { CHANNELS_MAX, SUITE_NAMES } from '../../protocol/options.ts';
import type { ApiClient, Asked } from '../api-client.ts';
import { print, withDaemon, type Common } from '../options.ts';
import { follower } from '../progress/follow.ts';
import { parseDuration, parseRate } from '../quantities.ts';

const migrateOptions = (cli: Argv<Common>) =>
  cli
    .positional('vm', { type: 'string', demandOption: true })
    .option('to', { type: 'string', demandOption: true, describe: 'destination host' })
    .option('mode', { choices: ['pre-copy'] as const, default: 'pre-copy' as const })
    .option('downtime-limit', {
      type: 'string',
      default: '50ms',
      coerce: parseDuration,
      describe: 'stop-and-copy begins when what remains fits into this',
    })
    .option('verify', {
      type: 'boolean',
      describe:
        'compare a digest of every page on both sides; adds to the downtime (default: as the daemon is configured)',
    })
    .option('max-bandwidth', {
      type: 'string',
      coerce: given(parseRate),
      describe: 'such as 10Gbit or 500MB',
    })
    .option('timeout', {
      type: 'string',
      coerce: given(parseDuration),
      describe: 'such as 5m; then what --on-timeout says',
    })
    .option('on-timeout', { choices: ['cancel'] as const, default: 'cancel' as const })
    .option('rounds', { type: 'number', default: 30, describe: 'pre-copy gives up after so many' })
    .option('channels', { type: 'number', default: 1, describe: `1 to ${CHANNELS_MAX}` })
    .option('suite', { choices: SUITE_NAMES, describe: 'of ciphers (default: the best of both)' })
    .option('detach', { type: 'boolean', default: false, describe: 'do not wait for the end' });

/** yargs coerces an option that was not given too. */
function given<T>(parse: (text: string) => T): (text: string | undefined) => T | undefined {
  return (text) => (text === undefined ? undefined : parse(text));
}

export const migrateCommand = (cli: Argv<Common>): Argv<Common> =>
  cli.command(
    'migrate <vm>',
    'moves a running VM to another host',
    migrateOptions,
    async (argv) => {
      const request: Asked<'migrate'> = {
        vm: argv.vm,
        to: argv.to,
        mode: argv.mode,
        downtimeLimitMs: argv.downtimeLimit,
        ...(argv.verify === undefined ? {} : { verify: argv.verify }),
        ...(argv.maxBandwidth === undefined ? {} : { maxBandwidthBps: argv.maxBandwidth }),
        ...(argv.timeout === undefined ? {} : { timeoutMs: argv.timeout }),
        channels: argv.channels,
        ...(argv.suite === undefined ? {} : { suite: argv.suite }),
        roundsMax: argv.rounds,
        detach: argv.detach,
      };
      try {
        process.exitCode = await withDaemon(argv, (client) => migrate(client, request, argv));
      } catch (thrown) {
        if (argv.json) console.log(JSON.stringify(neverBegan(argv, MigError.from(thrown))));
        throw thrown;
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
    if (answer === 'left') return leave(interrupt);
    return 'event' in answer ? view.end(answer) : detached(common, answer);
  } finally {
    interrupt[Symbol.dispose]();
  }
}

function detached(common: Common, started: { readonly migrationId: string }): number {
  print(common, started, ({ migrationId }) => `${migrationId}: see \`migctl watch\``);
  return EXIT.completed;
}

function leave({ migrationId }: Interrupt): number {
  console.error(`left it to the daemon: see \`migctl status ${migrationId ?? ''}\``);
  return EXIT.inDoubt;
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
    if (event.event !== 'started') return;
    this.migrationId = event.migrationId;
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
    this.#client
      .ask('cancel', { migrationId })
      .catch((thrown: unknown) => console.error(MigError.from(thrown).message));
  }
}

/** The last line of `--json` is a result also where no migration came about. */
const neverBegan = (
  { vm, to }: { readonly vm: string; readonly to: string },
  { code, detail, entry }: MigError,
) => ({
  event: 'result',
  migrationId: null,
  vm,
  to,
  outcome: entry.exit === EXIT.refused ? 'refused' : 'failed',
  code,
  detail,
});
