/** `migctl pki`: the migration CA and what it issues. Works on files; needs no daemon. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import type { Argv } from 'yargs';
import { PkiDirectory, type Issued } from '../../crypto/pki/directory.ts';
import { parseDuration } from '../quantities.ts';
import { print, type Common } from '../options.ts';
import { table } from '../table.ts';

const PORTS = {
  clock: { wall: () => Date.now() },
  random: { bytes: (count: number) => randomBytes(count) },
};

/** What the three terminals of the README need. */
const FIRST = [
  ['host-a', 'host'],
  ['host-b', 'host'],
  ['operator', 'operator'],
] as const;

const KINDS = ['host', 'operator', 'owner'] as const;

export const pkiCommand = (cli: Argv<Common>): Argv<Common> =>
  cli.command('pki', 'certificates of hosts, operators and owners', (pki) =>
    pki
      .command(
        'init',
        'makes a CA and certificates for host-a, host-b and an operator',
        (init) =>
          init.option('trust-domain', {
            type: 'string',
            default: 'migd.local',
            describe: 'of the SPIFFE ids in the certificates',
          }),
        (argv) => {
          const made = PkiDirectory.init(path.resolve(argv.certs), PORTS, argv.trustDomain);
          const issued = FIRST.map(([name, kind]) => made.issue(name, kind));
          print(argv, issued, (all) => `CA made in ${argv.certs}/\n${listed(all)}`);
        },
      )
      .command(
        'issue <name>',
        'makes a key and a certificate',
        (issue) =>
          issue
            .positional('name', { type: 'string', demandOption: true })
            .option('kind', { choices: KINDS, demandOption: true, describe: 'of whom it is' })
            .option('life', {
              type: 'string',
              describe: 'such as 720h (default: 90 days for a host, 30 for others)',
            }),
        (argv) => {
          const life = argv.life === undefined ? undefined : parseDuration(argv.life);
          const issued = opened(argv).issue(argv.name, argv.kind, life);
          print(argv, issued, (one) => listed([one]));
        },
      )
      .command(
        'revoke <name>',
        'revokes every certificate of a name',
        (revoke) => revoke.positional('name', { type: 'string', demandOption: true }),
        (argv) => {
          const told = '\ndaemons read the list at start and on SIGHUP: give it to every host';
          print(argv, opened(argv).revoke(argv.name), (all) => listed(all) + told);
        },
      )
      .command(
        'list',
        'shows everything ever issued',
        (list) => list,
        (argv) => print(argv, opened(argv).list(), listed),
      )
      .demandCommand(1, 'expected: init, issue, revoke or list'),
  );

const opened = ({ certs }: Common): PkiDirectory => PkiDirectory.open(path.resolve(certs), PORTS);

const listed = (issued: readonly Issued[]): string =>
  table(
    issued,
    {
      NAME: ({ name }) => name,
      KIND: ({ kind }) => kind,
      STATE: stateOf,
      'VALID UNTIL': ({ notAfter }) => notAfter,
      SERIAL: ({ serial }) => serial,
    },
    'nothing issued',
  );

function stateOf({ revokedAt, notAfter }: Issued): string {
  if (revokedAt !== null) return 'revoked';
  return Date.parse(notAfter) < Date.now() ? 'expired' : 'valid';
}
