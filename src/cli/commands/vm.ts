/** `migctl vm`: the VMs of one host. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse as parseYaml } from 'yaml';
import type { Argv } from 'yargs';
import type { VmView } from '../../daemon/api/schema.ts';
import type { SelfCheck } from '../../guest/driver.ts';
import { EXIT } from '../../protocol/codes.ts';
import { MigError } from '../../protocol/error.ts';
import { print, withDaemon, type Common } from '../options.ts';
import { formatSize, parsePercent, parseRate, parseSize } from '../quantities.ts';
import { table } from '../table.ts';

export const vmCommand = (cli: Argv<Common>): Argv<Common> =>
  cli.command('vm', 'the VMs of a host', (vm) =>
    shown(changed(created(vm))).demandCommand(
      1,
      'expected: create, list, show, check, pause, resume or delete',
    ),
  );

const WORKLOADS = ['idle', 'writer', 'zipf', 'kv'] as const;

const created = (vm: Argv<Common>): Argv<Common> =>
  vm.command(
    'create <name>',
    'starts a guest with a virtual TPM: an embedded one, or one of QEMU',
    (create) =>
      create
        .positional('name', { type: 'string', demandOption: true })
        .option('driver', {
          choices: ['ram', 'qemu'] as const,
          default: 'ram' as const,
          describe: 'who runs it: migd itself, or QEMU',
        })
        .option('file', { type: 'string', describe: 'qemu: YAML file that describes all of it' })
        .option('memory', { type: 'string', default: '1G', describe: 'RAM, such as 512M or 4G' })
        .option('vcpus', { type: 'number', default: 1, describe: 'threads that run the workload' })
        .option('workload', { choices: WORKLOADS, default: 'idle' as const })
        .option('rate', {
          type: 'string',
          default: '50MB',
          describe: 'writer, zipf: memory written a second',
        })
        .option('working-set', {
          type: 'string',
          describe: 'writer, zipf: memory that is written (default: a quarter of RAM)',
        })
        .option('skew', { type: 'number', default: 1, describe: 'zipf: exponent' })
        .option('kv-port', {
          type: 'number',
          default: 0,
          describe: 'kv: TCP port on loopback (0: any free one, see `vm show`)',
        })
        .option('fill', {
          type: 'string',
          default: '50%',
          describe: 'share of RAM that begins with incompressible content',
        })
        .option('image', { type: 'string', describe: 'file whose bytes RAM begins with' })
        .option('dirty', {
          choices: ['auto', 'uffd', 'log'] as const,
          default: 'auto' as const,
          describe: 'how written pages are found: by the MMU or by a software log',
        }),
    async (argv) => {
      if ((argv.driver === 'qemu') !== (argv.file !== undefined)) {
        throw new MigError('USAGE', '--driver qemu and --file go together');
      }
      const request =
        argv.file === undefined
          ? embedded(argv)
          : { driver: 'qemu', name: argv.name, description: readDescription(argv.file) };
      const made = await withDaemon(argv, (client) => client.ask('vm.create', request));
      print(argv, made, (one) => `${one.name} runs at ${one.host}`);
    },
  );

interface Embedded {
  readonly name: string;
  readonly memory: string;
  readonly vcpus: number;
  readonly workload: (typeof WORKLOADS)[number];
  readonly rate: string;
  readonly workingSet: string | undefined;
  readonly skew: number;
  readonly kvPort: number;
  readonly fill: string;
  readonly image: string | undefined;
  readonly dirty: 'auto' | 'uffd' | 'log';
}

/** What is asked of the daemon for an embedded guest. */
function embedded(argv: Embedded): object {
  const memoryBytes = parseSize(argv.memory);
  const load = {
    rateBps: parseRate(argv.rate),
    workingSetBytes:
      argv.workingSet === undefined
        ? Math.max(Math.floor(memoryBytes / 4), WORKING_SET_BYTES_MIN)
        : parseSize(argv.workingSet),
  };
  const workload = {
    idle: { kind: 'idle' as const },
    writer: { kind: 'writer' as const, ...load },
    zipf: { kind: 'zipf' as const, ...load, skew: argv.skew },
    kv: { kind: 'kv' as const, port: argv.kvPort },
  }[argv.workload];
  return {
    driver: 'ram',
    name: argv.name,
    memoryBytes,
    vcpus: argv.vcpus,
    workload,
    fill: parsePercent(argv.fill),
    ...(argv.image === undefined ? {} : { imagePath: path.resolve(argv.image) }),
    dirtyTracking: argv.dirty,
  };
}

/** What a YAML file says; the daemon checks it. Throws USAGE when it cannot be read as YAML. */
function readDescription(file: string): unknown {
  try {
    return parseYaml(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new MigError('USAGE', `${file}: ${(cause as Error).message}`, { cause });
  }
}

const WORKING_SET_BYTES_MIN = 64 * 1024;

const named = (one: Argv<Common>) => one.positional('name', { type: 'string', demandOption: true });

const changed = (vm: Argv<Common>): Argv<Common> =>
  vm
    .command('pause <name>', 'stops the vCPUs; memory stays', named, async (argv) => {
      const view = await withDaemon(argv, (client) => client.ask('vm.pause', { name: argv.name }));
      print(argv, view, ({ name, state }) => `${name} is ${state}`);
    })
    .command('resume <name>', 'lets the vCPUs go on', named, async (argv) => {
      const view = await withDaemon(argv, (client) => client.ask('vm.resume', { name: argv.name }));
      print(argv, view, ({ name, state }) => `${name} is ${state}`);
    })
    .command('delete <name>', 'ends a VM and destroys its vTPM', named, async (argv) => {
      const { name } = argv;
      await withDaemon(argv, (client) => client.ask('vm.delete', { name }));
      print(argv, { name, deleted: true }, () => `${name} is deleted`);
    });

const shown = (vm: Argv<Common>): Argv<Common> =>
  vm
    .command(
      'list',
      'shows all VMs of the host',
      (list) => list,
      async (argv) => {
        const views = await withDaemon(argv, (client) => client.ask('vm.list', {}));
        print(argv, views, listed);
      },
    )
    .command(
      'show <name>',
      'shows one VM and what its guest says of itself',
      named,
      async (argv) => {
        const { name } = argv;
        const detail = await withDaemon(argv, (client) => client.ask('vm.show', { name }));
        print(argv, detail, (one) => JSON.stringify(one, null, 2));
      },
    )
    .command('check <name>', 'lets the guest check each of its pages', named, async (argv) => {
      const { name } = argv;
      const check = await withDaemon(argv, (client) => client.ask('vm.check', { name }));
      print(argv, check, (one) => `${name}: ${verdict(one)}`);
      if (!isWhole(check)) process.exitCode = EXIT.failed;
    });

const isWhole = ({ badPages, versionSum, registerSum }: SelfCheck): boolean =>
  badPages === 0 && versionSum === registerSum;

const verdict = (check: SelfCheck): string =>
  isWhole(check)
    ? `all ${check.pages} pages are whole and the newest`
    : `${check.badPages} of ${check.pages} pages are damaged, stale or lost`;

const listed = (views: readonly VmView[]): string =>
  table(
    views,
    {
      NAME: ({ name }) => name,
      HOST: ({ host }) => host,
      STATE: ({ state, movedTo }) => (movedTo === null ? state : `${state} (to ${movedTo})`),
      EPOCH: ({ epoch }) => String(epoch),
      MEMORY: ({ memoryBytes }) => formatSize(memoryBytes),
      VCPUS: ({ vcpus }) => String(vcpus),
      WORKLOAD: ({ workload }) => workload,
      DRIVER: ({ driver }) => driver,
      VTPM: ({ vtpm }) => vtpm,
    },
    'no VMs',
  );
