/** `migd`: reads its configuration, takes its state directory, opens its doors, and ends in order. */
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import type { z } from 'zod';
import { STOP_MS_MAX } from '../base/limits.ts';
import { MiB } from '../base/units.ts';
import type { VmPlace } from '../guest/driver.ts';
import { Drivers } from '../guest/drivers.ts';
import { QemuDriver } from '../guest/qemu/driver.ts';
import { RamDriver } from '../guest/ram/driver.ts';
import { Appraiser } from '../migration/appraiser.ts';
import { Threads } from '../migration/data-plane/threads.ts';
import { Inventory } from '../migration/inventory.ts';
import { FileLock } from '../native/file-lock.ts';
import { MigError } from '../protocol/error.ts';
import { SUITE_NAMES } from '../protocol/options.ts';
import { openStore } from '../store/lmdb-store.ts';
import { splitAddress } from '../transport/control.ts';
import { listenUnix, serveApi, type Handler } from './api/server.ts';
import { systemClock } from './clock.ts';
import { readCommandLine } from './command-line.ts';
import { resolveConfig, type Config } from './config.ts';
import { keepSmall } from './footprint.ts';
import { canPostCopy, chooseEngine } from './engine.ts';
import { Host, systemRandom } from './host.ts';
import { readIdentity } from './identity.ts';
import { listenTls } from './listener.ts';
import { makeLog } from './log.ts';
import { makeMetrics, serveMetrics } from './metrics.ts';
import { operations } from './operations.ts';
import { makeMemoryFolder, makeOwnFolder } from './own-folder.ts';
import type { METHODS } from './api/schema.ts';

const { version } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string };

/** Data channels that can begin at once; each spare costs a thread's memory. */
const SPARE_THREADS = 1;

async function run(config: Config): Promise<void> {
  keepSmall();
  const log = makeLog(config);
  const engine = chooseEngine(config.engine, log);
  let identity = readIdentity(config.certs, config.name);
  let appraiser = new Appraiser(identity.hostKey, config.attestation.allow);
  makeOwnFolder(config.stateDir);
  makeMemoryFolder(config.memoryDir);
  const lock = new FileLock(path.join(config.stateDir, 'lock'));
  const vms = foldersIn(path.join(config.stateDir, 'vms'));
  const store = openStore(config.stateDir, { isKnown: vms.length > 0 });
  const place = (name: string): VmPlace => ({
    name,
    memoryDir: path.join(config.memoryDir, name),
    stateDir: path.join(config.stateDir, 'vms', name),
  });
  // A host that only sends makes no guest in a hurry.
  const ram = new RamDriver({ keepSpare: config.role !== 'source' });
  const drivers = new Drivers(ram, new QemuDriver());
  const inventory = new Inventory(store, drivers, place);
  const owed = await inventory.recover(vms);
  const threads = new Threads(SPARE_THREADS);
  const host = new Host({
    config,
    clock: systemClock,
    random: systemRandom,
    store,
    drivers,
    inventory,
    threads,
    engine,
    postCopies: canPostCopy(engine, config.memoryDir),
    identity: () => identity,
    appraiser: () => appraiser,
    doubted: ({ migrationId, vm }, cause) =>
      log.warn({ migration: migrationId, vm, ...cause }, 'a handover waits for the other host'),
    interrupted: ({ migrationId, vm }, { code, detail }) =>
      log.warn({ migration: migrationId, vm, code, detail }, 'pages of a VM do not come'),
    settled: ({ migrationId, vm }, { outcome, code, detail }) => {
      const level = code === 'TWO_LIVES' ? 'error' : 'info';
      log[level]({ migration: migrationId, vm, outcome, code, detail }, 'handover settled');
    },
  });
  host.recover(owed);
  host.events.listen((event) => {
    const { migrationId, ...rest } = event;
    if (event.event === 'progress') return;
    log.info({ migration: migrationId, ...rest, rounds: undefined }, `migration ${event.event}`);
  });

  const known = operations({ config, version, host, inventory, store });
  const handler: Handler = (method, params, call) => {
    // The schema of the method has checked the parameters already.
    const operation = known[method] as (
      params: z.infer<(typeof METHODS)[typeof method]>,
      call: unknown,
    ) => Promise<unknown>;
    if (method !== 'hello' && method !== 'status') {
      log.info({ method, operator: call.caller.name }, 'request');
    }
    return operation(params as never, call);
  };
  const api = { handler, log };
  const metrics = makeMetrics({
    vms: () => countBy(inventory.list().map(({ record }) => record.state)),
    migrations: () => {
      const underWay = host.migrations().filter(({ phase }) => phase !== 'queued');
      const directions = underWay.map(({ direction }) => direction);
      return { outgoing: 0, incoming: 0, ...countBy(directions) };
    },
    queued: () => host.migrations().filter(({ phase }) => phase === 'queued').length,
  });
  host.events.listen(metrics.hear);
  const closeMetrics =
    config.metrics === undefined
      ? () => undefined
      : await serveMetrics(config.metrics, metrics.registry, () => !host.isStopping);

  const listener = await listenTls({
    ...splitAddress(config.listen),
    identity: identity.identity,
    log,
    doors: {
      refusal: () => host.refusal,
      host: (channel) => {
        const incoming = host.receive(channel);
        log.info({ from: channel.peer.name }, 'a host connected');
        void incoming.finished.then(({ migrationId, ...result }) =>
          log.info({ migration: migrationId, ...result }, 'incoming migration ended'),
        );
      },
      serving: (channel) => {
        log.info({ from: channel.peer.name }, 'a host comes with pages');
        host.receiveServing(channel);
      },
      handover: (channel) => {
        log.info({ from: channel.peer.name }, 'a host asks about a handover');
        host.receiveHandover(channel);
      },
      operator: (socket, name) => serveApi(socket, { name, isLocal: false }, api),
    },
  });
  const closeUnix = await listenUnix(path.join(config.stateDir, 'migd.sock'), api);

  if (config.sampleGuest && inventory.list().every(({ record }) => record.state === 'gone')) {
    await inventory.create({
      driver: 'ram',
      name: 'vm1',
      memoryBytes: 256 * MiB,
      vcpus: 1,
      workload: { kind: 'writer', rateBps: 20e6, workingSetBytes: 32 * MiB },
      fill: 0.5,
      dirtyTracking: 'auto',
    });
  }
  const legacy = config.suites.filter((suite) => !SUITE_NAMES.some((name) => name === suite));
  if (legacy.length > 0) log.warn({ legacy }, 'suites to compare with, and not to protect');
  log.info({ listen: listener.address, role: config.role, engine, pid: process.pid }, 'ready');

  process.on('SIGHUP', () => {
    try {
      identity = readIdentity(config.certs, config.name);
      appraiser = new Appraiser(identity.hostKey, config.attestation.allow);
      listener.renew(identity.identity);
      log.info('certificates and revocation list read anew');
    } catch (err) {
      log.error({ err }, 'the old certificates stay in force');
    }
  });

  let stopping = false;
  const stop = async (signal: string): Promise<void> => {
    if (stopping) return;
    stopping = true;
    log.info({ signal }, 'stopping');
    const bound = systemClock.after(STOP_MS_MAX, () => {
      log.error('a migration did not end in time: it is settled when this daemon is back');
      process.exit(1);
    });
    await host.stop();
    await listener.close();
    await closeUnix();
    closeMetrics();
    await threads.close();
    await ram.close();
    await store.close();
    removeIfEmpty(config.memoryDir);
    lock[Symbol.dispose]();
    bound.cancel();
    log.info('stopped');
    process.exit(0);
  };
  process.on('SIGTERM', (signal) => void stop(signal));
  process.on('SIGINT', (signal) => void stop(signal));
}

/** The folder stays while guests live in it. */
function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw thrown;
  }
}

const foldersIn = (directory: string): string[] =>
  existsSync(directory)
    ? readdirSync(directory, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => name)
    : [];

function countBy(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}

try {
  const { flags, file, check } = await readCommandLine(process.argv.slice(2), version);
  const config = resolveConfig(flags, process.env, file);
  if (check) console.log(JSON.stringify(config, null, 2));
  else await run(config);
} catch (thrown) {
  const { code, message, entry } = MigError.from(thrown);
  console.error(`migd: ${code}: ${message}\n${entry.remedy}`);
  process.exit(entry.exit);
}
