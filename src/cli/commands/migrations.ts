/** `migctl status`, `watch`, `history`, `cancel`, `resolve`: migrations that are under way or ended. */
import type { Argv } from 'yargs';
import type { MigrationView } from '../../daemon/api/schema.ts';
import { EXIT } from '../../protocol/codes.ts';
import type { PastMigration } from '../api-client.ts';
import { print, withDaemon, type Common } from '../options.ts';
import { follower } from '../progress/follow.ts';
import { table } from '../table.ts';

const idOf = (cli: Argv<Common>) => cli.positional('id', { type: 'string', describe: 'migration' });

export const migrationCommands = (cli: Argv<Common>): Argv<Common> =>
  cli
    .command('status [id]', 'shows migrations under way, or one', idOf, async (argv) => {
      const params = argv.id === undefined ? {} : { migrationId: argv.id };
      const rows = await withDaemon(argv, (client) => client.ask('status', params));
      print(argv, rows, listed('none under way'));
    })
    .command('watch [id]', 'follows a migration to its end', idOf, async (argv) => {
      const params = argv.id === undefined ? {} : { migrationId: argv.id };
      const view = follower(argv.json, process.stdout);
      process.exitCode = await withDaemon(argv, async (client) =>
        view.end(await client.ask('watch', params, (event) => view.hear(event))),
      );
    })
    .command(
      'history [vm]',
      'shows migrations of this host, or of one VM',
      (history) => history.positional('vm', { type: 'string' }),
      async (argv) => {
        const params = argv.vm === undefined ? {} : { vm: argv.vm };
        const rows = await withDaemon(argv, (client) => client.ask('history', params));
        print(argv, rows, listed('no migrations'));
      },
    )
    .command(
      'cancel <id>',
      'ends a migration, or says that it is too late or in doubt',
      (cancel) => cancel.positional('id', { type: 'string', demandOption: true }),
      async (argv) => {
        const migrationId = argv.id;
        const row = await withDaemon(argv, (client) => client.ask('cancel', { migrationId }));
        print(argv, row, ({ vm, from, outcome, code }) =>
          outcome === 'cancelled'
            ? `cancelled: ${vm} runs at ${from}`
            : `it was over before: ${outcome} ${code ?? ''}`.trim(),
        );
      },
    )
    .command(
      'resolve <id>',
      'asks the other host what became of a migration in doubt',
      (resolve) =>
        resolve.positional('id', { type: 'string', demandOption: true }).option('peer-fenced', {
          type: 'boolean',
          default: false,
          describe: 'states that the other host is off and will not run the VM: it is run here',
        }),
      async (argv) => {
        const { id: migrationId, peerFenced } = argv;
        const row = await withDaemon(argv, (client) =>
          client.ask('resolve', { migrationId, peerFenced }),
        );
        if (row.outcome === 'in-doubt') process.exitCode = EXIT.inDoubt;
        print(argv, row, (it) => listed('')([it]));
      },
    );

function stateOf(row: MigrationView | PastMigration): string {
  if (row.outcome !== null) return row.outcome;
  if (!('phase' in row)) return row.state;
  return row.place === null ? row.phase : `${row.phase} (${row.place})`;
}

const listed =
  (nothing: string) =>
  (rows: readonly (MigrationView | PastMigration)[]): string =>
    table(
      rows,
      {
        MIGRATION: ({ migrationId }) => migrationId,
        VM: ({ vm }) => vm,
        FROM: ({ from }) => from,
        TO: ({ to }) => to,
        STARTED: ({ startedAtMs }) => new Date(startedAtMs).toISOString(),
        STATE: stateOf,
        CODE: ({ code }) => code ?? '',
      },
      nothing,
    );
