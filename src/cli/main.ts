/** `migctl`: reads the command line, runs one command, and says what went wrong, if anything did. */
import { readFileSync } from 'node:fs';
import yargs from 'yargs';
import { EXIT } from '../protocol/codes.ts';
import { MigError } from '../protocol/error.ts';
import { completionCommand } from './commands/completion.ts';
import { hostsCommand } from './commands/hosts.ts';
import { migrateCommand } from './commands/migrate.ts';
import { migrationCommands } from './commands/migrations.ts';
import { pkiCommand } from './commands/pki.ts';
import { vmCommand } from './commands/vm.ts';
import { withCommonOptions } from './options.ts';
import { explained } from './progress/summary.ts';

const { version } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string };

async function run(args: readonly string[]): Promise<void> {
  const cli = withCommonOptions(yargs([...args]).scriptName('migctl'), process.env)
    .usage('$0 COMMAND: asks a migd for what it does')
    .version(version)
    .strict()
    // Given twice, the last counts.
    .parserConfiguration({ 'duplicate-arguments-array': false })
    .demandCommand(1, 'expected a command')
    .recommendCommands()
    .fail((message: string | null, error: Error | undefined) => {
      // What a command threw comes here too.
      throw error === undefined || error.name === 'YError'
        ? new MigError('USAGE', message ?? '')
        : error;
    });
  const commands = [
    vmCommand,
    migrateCommand,
    migrationCommands,
    hostsCommand,
    pkiCommand,
    completionCommand,
  ];
  await commands.reduce((known, add) => add(known), cli).parseAsync();
}

/** A reader that has seen enough (`| head`) is no error: the work goes on, its exit status counts. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return;
  console.error(`migctl: standard output: ${error.message}`);
  process.exit(EXIT.failed);
});
process.stderr.on('error', () => undefined);

try {
  await run(process.argv.slice(2));
} catch (thrown) {
  const { code, detail, entry } = MigError.from(thrown);
  console.error(explained(code, detail).join('\n'));
  process.exitCode = entry.exit;
}
