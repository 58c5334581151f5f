/**
 * One host: its VMs, its migrations both ways, and what an operator may ask of them. Wiring only;
 * how a migration goes is in src/migration, how a VM runs in src/guest.
 */
import { randomBytes } from 'node:crypto';
import { Broadcast } from '../base/broadcast.ts';
import type { Clock, Random } from '../base/ports.ts';
import { ramBytesOf, type Drivers, type VmSpec } from '../guest/drivers.ts';
import { Admission } from '../migration/admission.ts';
import type { Appraiser } from '../migration/appraiser.ts';
import { aborted } from '../migration/journal.ts';
import { writeAtLast } from '../migration/write-at-last.ts';
import type { MigrationDuty } from '../migration/recovery.ts';
import { IncomingMigration } from '../migration/incoming.ts';
import type { IncomingPorts } from '../migration/incoming-session.ts';
import type { OutgoingPorts } from '../migration/outgoing.ts';
import { IncomingServing } from '../migration/paging/incoming-serving.ts';
import { openServing } from '../migration/paging/outgoing-serving.ts';
import type { Threads } from '../migration/data-plane/threads.ts';
import { HandoverCosts } from '../migration/handover-costs.ts';
import type { Cause } from '../protocol/handover/matter.ts';
import { Handovers, type HandoverView } from '../migration/handover/handovers.ts';
import type { Settlement } from '../migration/handover/handover.ts';
import { receiveHandover, type Session } from '../migration/handover/reception.ts';
import type { Held, Inventory } from '../migration/inventory.ts';
import type { MigrationEvent } from '../migration/report.ts';
import type { Departure } from '../migration/scheduling/departure.ts';
import { Departures } from '../migration/scheduling/departures.ts';
import { lastTry } from '../migration/scheduling/tries.ts';
import { MigError } from '../protocol/error.ts';
import { CHANNELS_MAX, contradictionIn, type MigrateOptions } from '../protocol/options.ts';
import { isInfeasible } from '../protocol/source/deadline.ts';
import type { MigrationRecord, RecordStore } from '../store/records.ts';
import type { ControlChannel } from '../transport/control.ts';
import type { MigrationView } from './api/schema.ts';
import type { Config } from './config.ts';
import type { HostIdentity } from './identity.ts';
import type { Engine } from '../transport/connection.ts';
import { uuidV7 } from './uuid.ts';

export interface HostParts {
  readonly config: Config;
  readonly clock: Clock;
  readonly random: Random;
  readonly store: RecordStore;
  readonly drivers: Drivers;
  readonly inventory: Inventory;
  readonly threads: Threads;
  readonly engine: Engine;
  /** Whether a guest can run here while its memory comes. */
  readonly postCopies: boolean;
  readonly identity: () => HostIdentity;
  readonly appraiser: () => Appraiser;
  /** Told how each handover was settled. */
  readonly doubted: (record: MigrationRecord, cause: Cause) => void;
  readonly settled: (record: MigrationRecord, settlement: Settlement) => void;
  /** Told of why pages that were left at the source do not come. */
  readonly interrupted: (record: MigrationRecord, failure: MigError) => void;
}

export class Host {
  readonly #parts: HostParts;
  readonly #admission: Admission;
  readonly #handovers: Handovers;
  readonly #costs = new HandoverCosts();
  readonly #departures: Departures;
  readonly #outgoing: OutgoingPorts;
  /** Sessions in which pages come, until their channels have joined. */
  readonly #servings = new Set<IncomingServing>();
  readonly #incoming = new Set<IncomingMigration>();
  /** Everything that any migration of this host tells: metrics and log subscribe here. */
  readonly events = new Broadcast<MigrationEvent>(0);
  #stopping = false;

  constructor(parts: HostParts) {
    this.#parts = parts;
    const { store, inventory, clock, random, identity, config, threads, engine } = parts;
    this.#handovers = new Handovers({
      store,
      inventory,
      clock,
      random,
      identity,
      peers: config.peers,
      silenceMs: config.limits.peerSilenceMs,
      doubted: parts.doubted,
      settled: parts.settled,
      reopen: (record, memory, signal) => {
        const address = config.peers[record.to];
        if (address === undefined) throw new MigError('HOST_UNKNOWN', record.to);
        return openServing(this.#outgoing, { record, memory, address, signal });
      },
      interrupted: parts.interrupted,
    });
    const askNow = (migrationId: string) => this.#handovers.ask(migrationId);
    this.#admission = new Admission(store, inventory, parts.drivers.ram, askNow, config.limits);
    this.#outgoing = {
      host: config.name,
      credentials: () => ({ ...identity(), appraiser: parts.appraiser() }),
      suites: config.suites,
      forms: config.forms,
      encodings: config.encodings,
      engine,
      inventory,
      store,
      clock,
      random,
      threads,
      handovers: this.#handovers,
      costs: this.#costs,
      silenceMs: config.limits.peerSilenceMs,
      reconnectMs: config.limits.reconnectMs,
    };
    const newId = () => uuidV7(clock.wall(), random.bytes(10));
    const tell = (event: MigrationEvent) => this.events.tell(event);
    this.#departures = new Departures({ outgoing: this.#outgoing, newId, tell }, config.limits);
  }

  get name(): string {
    return this.#parts.config.name;
  }

  /** Makes a VM, within the limits of this host. Throws DEST_CAPACITY, VM_EXISTS, the driver's. */
  async create(spec: VmSpec): Promise<void> {
    this.#admission.checkMemory(ramBytesOf(spec));
    await this.#parts.inventory.create(spec);
  }

  /** Throws PAGES_OWED while a VM is not whole, IN_DOUBT while its last source may have it back. */
  checkArrived(vm: string): Promise<void> {
    return this.#handovers.checkArrived(vm);
  }

  /** Whether it stands still until pages come that its source still has. */
  awaitsPages({ record, guest }: Held): boolean {
    return guest?.lifecycle === 'held' && this.#handovers.arrival(record.name) === 'coming';
  }

  /** Takes a request for a migration. Throws what makes it impossible from the start. */
  migrate(options: MigrateOptions): Departure {
    const { config, inventory } = this.#parts;
    if (this.#stopping) throw new MigError('DAEMON_STOPPING');
    if (config.role === 'dest') throw new MigError('ROLE_REFUSED', 'dest only receives');
    if (options.to === config.name) throw new MigError('HOST_SELF', options.to);
    const address = config.peers[options.to];
    if (address === undefined) throw new MigError('HOST_UNKNOWN', options.to);
    if (options.suite !== undefined && !config.suites.includes(options.suite)) {
      throw new MigError('SUITE_MISMATCH', `${options.suite} is not allowed here`);
    }
    if (options.form !== undefined && !config.forms.includes(options.form)) {
      throw new MigError('FORM_MISMATCH', `${options.form} is not allowed here`);
    }
    const contradiction = contradictionIn(options);
    if (contradiction !== undefined) throw new MigError('REQUEST_INVALID', contradiction);
    const { guest } = inventory.movable(options.vm);
    this.#checkDeadline(options, guest.memory.ramBytes);
    const claim = inventory.claim(options.vm, 'VM_MIGRATING');
    try {
      // At the destination it would run: what its operator stopped, only its operator lets go on.
      if (guest.lifecycle === 'paused')
        throw new MigError('VM_STATE', `${options.vm} is paused: resume it`);
      return this.#departures.request({ options, address, claim });
    } catch (thrown) {
      claim[Symbol.dispose]();
      throw thrown;
    }
  }

  /** Throws DEADLINE_INFEASIBLE when one copy of the memory, within the limits asked for, takes longer. */
  #checkDeadline(options: MigrateOptions, memoryBytes: number): void {
    const { to, deadlineMs, maxBandwidthBps, channels } = options;
    if (deadlineMs === undefined) return;
    const terms = { deadlineMs, maxBandwidthBps, channels, handoverMs: this.#costs.expected(to) };
    if (!isInfeasible(terms, memoryBytes)) return;
    const detail = `${memoryBytes} bytes in ${deadlineMs} ms, at ${maxBandwidthBps} bytes a second`;
    throw new MigError('DEADLINE_INFEASIBLE', detail);
  }

  /** Another host connected to migrate to us. Throws when it is not to be listened to. */
  receive(channel: ControlChannel): IncomingMigration {
    const incoming = new IncomingMigration(this.#incomingPorts(), channel);
    this.#incoming.add(incoming);
    void incoming.finished.then(() => this.#incoming.delete(incoming));
    return incoming;
  }

  /** Another host connected to send pages that are missing of a VM here. */
  receiveServing(channel: ControlChannel): void {
    const serving = new IncomingServing(this.#incomingPorts(), channel);
    this.#servings.add(serving);
    void serving.ended.then(() => this.#servings.delete(serving));
  }

  #incomingPorts(): IncomingPorts {
    const { config, clock, random, store, inventory, threads, engine, postCopies } = this.#parts;
    const { identity, hostKey } = this.#parts.identity();
    return {
      host: config.name,
      identity,
      hostKey,
      suites: config.suites,
      forms: config.forms,
      encodings: config.encodings,
      engine,
      postCopies,
      channelsMax: CHANNELS_MAX,
      dataPorts: config.dataPorts,
      appraiser: this.#parts.appraiser(),
      admission: this.#admission,
      inventory,
      store,
      clock,
      random,
      threads,
      handovers: this.#handovers,
      silenceMs: config.limits.peerSilenceMs,
      reconnectMs: config.limits.reconnectMs,
      resumable: (id, from) =>
        [...this.#incoming].find(
          ({ view, isResumable }) => isResumable && view.migrationId === id && view.from === from,
        ),
      isUnderWay: (id) => [...this.#incoming].some(({ view }) => view.migrationId === id),
    };
  }

  /** Ends what the last daemon left under way, and goes on with its handovers. */
  recover(owed: readonly MigrationDuty[]): void {
    for (const { kind, migration } of owed) {
      if (kind === 'handOver') this.#handovers.recover(migration);
      else void writeAtLast(this.#parts, () => aborted(migration, 'DAEMON_STOPPED', ''));
    }
  }

  /** Another host wants to settle a handover. */
  receiveHandover(channel: ControlChannel): void {
    const { store, clock, random, config, identity } = this.#parts;
    receiveHandover(
      {
        store,
        clock,
        random,
        handovers: this.#handovers,
        inventory: this.#parts.inventory,
        silenceMs: config.limits.peerSilenceMs,
        hostKey: () => identity().hostKey,
        sessionOf: (migrationId) => this.#sessionOf(migrationId),
      },
      channel,
    );
  }

  #sessionOf(migrationId: string): Session | undefined {
    const departure = this.#departures.find(migrationId);
    const migration = departure?.migration;
    if (departure !== undefined && migration?.migrationId === migrationId) {
      return {
        peer: departure.options.to,
        peerReturned: () => migration.peerReturned(),
        ended: migration.sessionEnded,
      };
    }
    const incoming = [...this.#incoming].find(({ view }) => view.migrationId === migrationId);
    return (
      incoming && {
        peer: incoming.view.from,
        peerReturned: () => incoming.peerReturned(),
        ended: incoming.sessionEnded,
      }
    );
  }

  get isStopping(): boolean {
    return this.#stopping;
  }

  /** Why this host takes no migration at all now, if so. */
  get refusal(): MigError | undefined {
    if (this.#stopping) return new MigError('DAEMON_STOPPING');
    if (this.#parts.config.role === 'source')
      return new MigError('ROLE_REFUSED', 'source only sends');
    return undefined;
  }

  /** Whether a VM waits for its turn to leave. */
  isQueued(vm: string): boolean {
    return [...this.#departures].some(({ options, isWaiting }) => options.vm === vm && isWaiting);
  }

  /** A request of ours that is not over, by the id of any of its tries. */
  departure(migrationId: string): Departure | undefined {
    return this.#departures.find(migrationId);
  }

  /** Throws MIGRATION_UNKNOWN when there is none, or more than one. */
  onlyDeparture(): Departure {
    const [first, ...others] = this.#departures;
    if (first === undefined) throw new MigError('MIGRATION_UNKNOWN', 'none is under way');
    if (others.length > 0) throw new MigError('MIGRATION_UNKNOWN', 'several are: name one');
    return first;
  }

  /**
   * Asks a migration to end, and resolves when it has: the VM runs here. Throws CANCEL_TOO_LATE when
   * it runs at the destination, IN_DOUBT when that is not known, MIGRATION_UNKNOWN.
   */
  async cancel(migrationId: string): Promise<void> {
    const underWay = this.#departures.find(migrationId);
    underWay?.cancel('CANCELLED');
    const result = await underWay?.result;
    const record = lastTry(this.#parts.store, result?.migrationId ?? migrationId);
    if (record?.direction !== 'outgoing') throw new MigError('MIGRATION_UNKNOWN', migrationId);
    if (record.state === 'gone') throw new MigError('CANCEL_TOO_LATE', migrationId);
    // Ended, and still on record as begun: how it ended is being written.
    const isUnwritten =
      record.state === 'started' && (result?.outcome ?? 'in-doubt') === 'in-doubt';
    if (isUnwritten || record.state === 'surrendered') throw new MigError('IN_DOUBT', migrationId);
  }

  /** Asks the other host now what became of a migration. Throws MIGRATION_UNKNOWN. */
  async resolve(migrationId: string): Promise<void> {
    if (this.#parts.store.migration(migrationId) === undefined) {
      throw new MigError('MIGRATION_UNKNOWN', migrationId);
    }
    await this.#handovers.ask(migrationId);
  }

  /**
   * Settles a handover on an operator's statement that the other host was fenced: the VM is run here.
   * Throws MIGRATION_UNKNOWN, VM_STATE.
   */
  fence(migrationId: string, operator: string): Promise<void> {
    return this.#handovers.fence(migrationId, operator);
  }

  /** Handovers that are not settled. */
  get handovers(): readonly HandoverView[] {
    return this.#handovers.list();
  }

  migrations(): MigrationView[] {
    const outgoing = [...this.#departures].map((departure) => {
      const { migration, migrationId, options, requestedAtMs } = departure;
      return {
        migrationId,
        vm: options.vm,
        from: this.name,
        to: options.to,
        direction: 'outgoing' as const,
        phase: migration?.progress.phase ?? 'queued',
        place: this.#departures.placeOf(departure),
        round: migration?.progress.round ?? 0,
        startedAtMs: migration?.startedAtMs ?? requestedAtMs,
        outcome: null,
        code: null,
      };
    });
    const incoming = [...this.#incoming].map(({ view }) => ({
      migrationId: view.migrationId,
      vm: view.vm,
      from: view.from,
      to: this.name,
      direction: 'incoming' as const,
      phase: view.state,
      place: null,
      round: 0,
      startedAtMs: view.startedAtMs,
      outcome: null,
      code: null,
    }));
    const rows = new Map<string, MigrationView>(
      [...outgoing, ...incoming].map((row) => [row.migrationId, row]),
    );
    for (const { record, state, doubt } of this.handovers) {
      const { migrationId, vm, from, to, direction, startedAtMs } = record;
      const session = rows.get(migrationId);
      // What only lacks the source's farewell runs here: it is over.
      const isFarewell = state === 'AwaitingDeletion' || state === 'Uncertified';
      if (session === undefined && isFarewell) continue;
      const phase = doubt === null ? (session?.phase ?? state) : 'in-doubt';
      const code = doubt?.code ?? null;
      const whose = { migrationId, vm, from, to, direction, startedAtMs };
      const round = session?.round ?? 0;
      rows.set(migrationId, { ...whose, phase, place: null, round, outcome: null, code });
    }
    return [...rows.values()];
  }

  /** Takes nothing new, ends what may be ended, waits for the rest. Resolves when none is left. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const incoming of this.#incoming) incoming.cancel('DAEMON_STOPPING');
    for (const serving of this.#servings) serving.cancel();
    await Promise.allSettled([
      this.#departures.stop('DAEMON_STOPPING'),
      ...[...this.#incoming].map(({ finished }) => finished),
      this.#handovers.stop(),
    ]);
  }
}

/** The system's generator. */
export const systemRandom: Random = { bytes: (count) => randomBytes(count) };
