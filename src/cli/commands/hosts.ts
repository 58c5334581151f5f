/** `migctl hosts`: the hosts that a daemon knows. */
import type { Argv } from 'yargs';
import { print, withDaemon, type Common } from '../options.ts';
import { table } from '../table.ts';

export const hostsCommand = (cli: Argv<Common>): Argv<Common> =>
  cli.command(
    'hosts',
    'shows the hosts that this one knows',
    (hosts) => hosts,
    async (argv) => {
      const hosts = await withDaemon(argv, (client) => client.ask('hosts', {}));
      print(argv, hosts, (rows) =>
        table(
          rows,
          {
            NAME: ({ name, self }) => (self ? `${name} (this one)` : name),
            ADDRESS: ({ address }) => address,
            LEAVING: ({ leaving }) => String(leaving),
            QUEUED: ({ queued }) => String(queued),
            COMING: ({ coming }) => String(coming),
          },
          'none',
        ),
      );
    },
  );
