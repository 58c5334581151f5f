/** What each method of the control API does on this host. */
import type { z } from 'zod';
import type { Guest } from '../guest/driver.ts';
import type { Held, Inventory } from '../migration/inventory.ts';
import type { MigrationEvent } from '../migration/report.ts';
import type { Departure } from '../migration/scheduling/departure.ts';
import { lastTry } from '../migration/scheduling/tries.ts';
import { MigError } from '../protocol/error.ts';
import type { MigrationRecord, RecordStore } from '../store/records.ts';
import type {
  DaemonView,
  HostView,
  MigrationView,
  Method,
  METHODS,
  VmDetail,
  VmView,
} from './api/schema.ts';
import type { Caller } from './api/server.ts';
import type { Config } from './config.ts';
import type { Host } from './host.ts';

type Params<M extends Method> = z.infer<(typeof METHODS)[M]>;

export interface Call {
  /** Tells the caller something before the result. */
  readonly emit: (event: MigrationEvent) => void;
  /** Aborted when the caller is gone. */
  readonly signal: AbortSignal;
  readonly caller: Caller;
}

export type Operations = {
  readonly [M in Method]: (params: Params<M>, call: Call) => Promise<unknown>;
};

export interface OperationParts {
  readonly config: Config;
  readonly version: string;
  readonly host: Host;
  readonly inventory: Inventory;
  readonly store: RecordStore;
}

export function operations(parts: OperationParts): Operations {
  const { config, version, host, inventory, store } = parts;

  const isInDoubt = (name: string): boolean =>
    host.handovers.some(({ record, doubt }) => record.vm === name && doubt !== null);

  const workOn = (name: string): 'migrating' | 'queued' | null => {
    if (host.isQueued(name)) return 'queued';
    const isMigrating = inventory.isClaimed(name) || host.awaitsPages(inventory.get(name));
    return isMigrating ? 'migrating' : null;
  };

  const view = ({ record, guest }: Held): VmView => ({
    name: record.name,
    vmId: record.vmId,
    host: config.name,
    state: isInDoubt(record.name) ? 'in-doubt' : stateOf({ record, guest }, workOn(record.name)),
    epoch: record.epoch,
    driver: record.descriptor.driver,
    memoryBytes: record.descriptor.regions.reduce((sum, { bytes }) => sum + bytes, 0),
    vcpus: record.descriptor.vcpus,
    workload: record.descriptor.driver === 'ram' ? record.descriptor.workload.kind : '-',
    vtpm: record.descriptor.vtpm?.kind ?? 'none',
    movedTo: record.movedTo,
  });

  const unclaimed = (name: string): Guest => {
    const { guest } = inventory.running(name);
    if (inventory.isClaimed(name)) throw new MigError('VM_MIGRATING', name);
    return guest;
  };

  return {
    hello: (): Promise<DaemonView> =>
      Promise.resolve({
        host: config.name,
        role: config.role,
        version,
        pid: process.pid,
        listen: config.listen,
        stateDir: config.stateDir,
      }),

    'vm.create': async (params, { caller }) => {
      // The daemon may read what an operator elsewhere may not.
      const namesFiles = params.driver === 'qemu' || params.imagePath !== undefined;
      if (namesFiles && !caller.isLocal) {
        throw new MigError('POLICY_DENIED', 'it names files of this host: ask on it');
      }
      await host.create(params);
      return view(inventory.get(params.name));
    },
    'vm.list': () => Promise.resolve(inventory.list().map((held) => view(held))),
    'vm.show': async ({ name }): Promise<VmDetail> => {
      const held = inventory.get(name);
      const guest = await held.guest?.status().catch(() => undefined);
      return { ...view(held), guest: guest === undefined ? null : { ...guest } };
    },
    'vm.check': async ({ name }) => {
      const { guest } = inventory.running(name);
      if (guest.moves === 'pages') return guest.check();
      throw new MigError('REQUEST_INVALID', 'only an embedded guest checks itself');
    },
    'vm.pause': async ({ name }) => {
      await unclaimed(name).pause();
      return view(inventory.get(name));
    },
    'vm.resume': async ({ name }) => {
      const guest = unclaimed(name);
      if (host.awaitsPages(inventory.get(name))) {
        throw new MigError('PAGES_OWED', 'it goes on when they come');
      }
      await guest.resume();
      return view(inventory.get(name));
    },
    'vm.delete': async ({ name }) => {
      await inventory.remove(name);
      return {};
    },

    migrate: async ({ detach, ...asked }, call) => {
      await host.checkArrived(asked.vm);
      const { verify = config.verify, autoConverge = config.autoConverge } = asked;
      const departure = host.migrate({ ...asked, verify, autoConverge });
      return detach ? { migrationId: departure.migrationId } : await follow(departure, call);
    },
    status: ({ migrationId }) => {
      const all = host.migrations();
      if (migrationId === undefined) return Promise.resolve(all);
      const present = host.departure(migrationId)?.migrationId ?? migrationId;
      const found = all.filter((migration) => migration.migrationId === present);
      return Promise.resolve(found.length > 0 ? found : [lastOf(store, migrationId)]);
    },
    watch: async ({ migrationId }, call) => {
      if (migrationId === undefined) return follow(host.onlyDeparture(), call);
      const departure = host.departure(migrationId);
      if (departure !== undefined) return follow(departure, call);
      const ended = lastTry(store, migrationId)?.result;
      if (ended === undefined) throw new MigError('MIGRATION_UNKNOWN', migrationId);
      return ended;
    },
    history: ({ vm }) =>
      Promise.resolve(
        store
          .migrations()
          .filter((record) => vm === undefined || record.vm === vm)
          .map((record) => past(record)),
      ),
    cancel: async ({ migrationId }) => {
      await host.cancel(migrationId);
      return lastOf(store, migrationId);
    },
    resolve: async ({ migrationId, peerFenced }, { caller }) => {
      if (peerFenced) await host.fence(migrationId, caller.name);
      else await host.resolve(migrationId);
      const missing = host.handovers.find(({ record }) => record.migrationId === migrationId);
      return { ...lastOf(store, migrationId), ...missing?.doubt };
    },
    hosts: (): Promise<HostView[]> => {
      const migrations = host.migrations();
      const hosts = Object.entries({ ...config.peers, [config.name]: config.listen });
      return Promise.resolve(
        hosts.map(([name, address]) =>
          hostView({ name, address, self: name === config.name }, migrations),
        ),
      );
    },
  };
}

/** Passes the events of a migration on to the caller while he listens; returns its result. */
async function follow(departure: Departure, { emit, signal }: Call): Promise<unknown> {
  const stop = departure.events.listen((event) => {
    if (event.event !== 'result') emit(event);
  });
  signal.addEventListener('abort', stop, { once: true });
  return departure.result.finally(stop);
}

/** `work`: what a request does with it now. */
function stateOf({ record, guest }: Held, work: 'migrating' | 'queued' | null): VmView['state'] {
  switch (record.state) {
    case 'gone':
      return 'gone';
    case 'prepared':
    case 'surrendered':
      return 'migrating';
    case 'active':
      if (guest === undefined) return 'lost';
      if (work !== null) return work;
      return guest.lifecycle === 'running' ? 'running' : 'paused';
  }
}

/** A row of `hosts`. */
function hostView(
  host: Pick<HostView, 'name' | 'address' | 'self'>,
  migrations: readonly MigrationView[],
): HostView {
  const between = migrations.filter(({ from, to }) => from === host.name || to === host.name);
  const count = (of: (migration: MigrationView) => boolean) => between.filter(of).length;
  return {
    ...host,
    leaving: count(({ direction, phase }) => direction === 'outgoing' && phase !== 'queued'),
    queued: count(({ phase }) => phase === 'queued'),
    coming: count(({ direction }) => direction === 'incoming'),
  };
}

/** What became of a request, by the id of any of its tries. Throws MIGRATION_UNKNOWN. */
function lastOf(store: RecordStore, migrationId: string): Record<string, unknown> {
  const record = lastTry(store, migrationId);
  if (record === undefined) throw new MigError('MIGRATION_UNKNOWN', migrationId);
  return past(record);
}

/** A row of `history`. */
function past(record: MigrationRecord): Record<string, unknown> {
  const { migrationId, next = null } = record;
  const { vm, from, to, direction, startedAtMs, state, code, detail, fencing = null } = record;
  const outcome = outcomeOf(record);
  return {
    migrationId,
    vm,
    from,
    to,
    direction,
    startedAtMs,
    state,
    outcome,
    code,
    detail,
    fencing,
    next,
  };
}

/** By its state; how an aborted one was told to the operator is in its result. */
function outcomeOf({ state, result }: MigrationRecord): string | null {
  switch (state) {
    case 'started':
      return null;
    case 'prepared':
    case 'surrendered':
      return 'in-doubt';
    case 'active':
    case 'gone':
      return 'completed';
    case 'aborted': {
      const told = typeof result === 'object' && result !== null && 'outcome' in result;
      return told && result.outcome !== 'in-doubt' ? String(result.outcome) : 'failed';
    }
  }
}
