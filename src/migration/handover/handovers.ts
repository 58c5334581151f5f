/**
 * The handovers of this host that are not settled yet, each driven from its record: begun by a
 * session, by a daemon that starts, or gone on with by the other host.
 */
import type { KeyObject } from 'node:crypto';
import { IN_DOUBT_ANSWER_MS_MAX, RECONNECT_WAIT_MS_MAX } from '../../base/limits.ts';
import type { Clock, Random } from '../../base/ports.ts';
import type { Identity } from '../../crypto/pki/identity.ts';
import { MigError } from '../../protocol/error.ts';
import type { Cause } from '../../protocol/handover/matter.ts';
import type { MigrationRecord, RecordStore } from '../../store/records.ts';
import { connectControl, HANDOVER_PATH } from '../../transport/control.ts';
import type { GuestMemory } from '../../guest/driver.ts';
import type { FaultCounts } from '../../protocol/messages.ts';
import { BackOff } from '../back-off.ts';
import { Conversation } from '../conversation.ts';
import type { Inventory } from '../inventory.ts';
import { contradicted, sourceFenced, subjectOf } from '../journal.ts';
import type { DataSender } from '../data-plane/sender.ts';
import type { PagePull, PullingChannels } from '../paging/page-pull.ts';
import { PageService, type Served, type ServingChannels } from '../paging/page-service.ts';
import { arrivalOf, type Arrival } from './arrival.ts';
import { migrationOf } from './entry.ts';
import { destinationSide } from './destination-side.ts';
import {
  Handover,
  isAlone,
  type HandoverPorts,
  type HandoverUnderWay,
  type Settlement,
} from './handover.ts';
import { sourceSide } from './source-side.ts';

export interface HandoverParts {
  readonly store: RecordStore;
  readonly inventory: Inventory;
  readonly clock: Clock;
  readonly random: Random;
  readonly identity: () => { readonly identity: Identity; readonly hostKey: KeyObject };
  /** Addresses of the other hosts, by name. */
  readonly peers: Readonly<Record<string, string>>;
  readonly silenceMs: number;
  /** Told of why the other host's word is missing, each time that it is another reason. */
  readonly doubted: (record: MigrationRecord, cause: Cause) => void;
  /** Sets up another session in which pages are served that were left at this host. */
  readonly reopen: (
    record: MigrationRecord,
    memory: GuestMemory,
    signal: AbortSignal,
  ) => Promise<ServingChannels>;
  /** Told of why pages that were left at the source do not come. */
  readonly interrupted: (record: MigrationRecord, failure: MigError) => void;
  /** Told of every end. */
  readonly settled: (record: MigrationRecord, settlement: Settlement) => void;
}

/** What a session leaves to the handover. */
interface Begun {
  readonly link?: Conversation;
  readonly observe?: (state: string) => void;
}

interface SourceSession {
  /** Lets go of the guest's memory. */
  readonly letGo?: () => Promise<void>;
  /** Its channels, for the pages that were left; whoever asks closes them. */
  readonly serving?: () => ServingChannels | undefined;
  /** Told of each sender of pages that were left: what it may send is said by others. */
  readonly limited?: (sender: DataSender) => void;
  /** Told of how it went, where pages were left. */
  readonly served?: (served: Served, faults: FaultCounts | undefined) => void;
}

interface DestinationSession {
  /** The VM runs and is all here: its name is free of us. */
  readonly started: () => void;
  /** Its channels, for the pages that are still to come. */
  readonly pulling?: PullingChannels | undefined;
}

/** A row for those who list what is under way. */
export interface HandoverView {
  readonly record: MigrationRecord;
  readonly state: string;
  /** Why it is not known which host runs the VM; null where it is. */
  readonly doubt: Cause | null;
}

export class Handovers {
  readonly #parts: HandoverParts;
  readonly #underWay = new Map<string, HandoverUnderWay>();
  readonly #pulls = new Map<string, PagePull>();

  constructor(parts: HandoverParts) {
    this.#parts = parts;
  }

  /** At the source, SURRENDERED is on disk. `letGo`: lets go of the guest's memory. */
  beginSource(migrationId: string, session: Begun & SourceSession): HandoverUnderWay {
    const { store, inventory, identity, clock, random, reopen, interrupted } = this.#parts;
    let service: PageService | undefined;
    const letGo = async () => {
      await session.letGo?.();
      await service?.close();
    };
    const side = sourceSide({
      migrationId,
      store,
      inventory,
      hostKey: () => identity().hostKey,
      begin: session.link === undefined ? 'alone' : 'linked',
      letGo,
      serve: (memory) => {
        service ??= new PageService(
          {
            memory,
            reopen: (signal) => reopen(migrationOf(store, migrationId), memory, signal),
            opened: (sender) => session.limited?.(sender),
            backOff: (due) => new BackOff({ clock, random }, due, { maxMs: RECONNECT_WAIT_MS_MAX }),
            failed: (failure) => interrupted(migrationOf(store, migrationId), failure),
          },
          session.serving?.(),
        );
      },
      served: (faults) => {
        if (service !== undefined) session.served?.(service.served, faults);
      },
    });
    return this.#begun(migrationId, (about, ports) => new Handover(ports, side, about), session);
  }

  /** At the destination, PREPARED is on disk. `started`: the VM runs, its name is free of us. */
  beginDestination(migrationId: string, session: Begun & DestinationSession): HandoverUnderWay {
    const { store, inventory } = this.#parts;
    const record = store.migration(migrationId);
    const isActive = record?.state === 'active';
    const isPulling = record?.handover?.leavesPages === true;
    const unlinked = isActive ? (isPulling ? 'pulling' : 'active') : 'alone';
    // To be had once.
    let channels = session.pulling;
    const pulling = () => {
      const first = channels;
      channels = undefined;
      return first;
    };
    const side = destinationSide({
      migrationId,
      store,
      inventory,
      begin: session.link === undefined ? unlinked : 'linked',
      started: session.started,
      pulling,
      broken: (failure) => this.#parts.interrupted(migrationOf(store, migrationId), failure),
      pulls: (pull) => this.#pulls.set(migrationId, pull),
    });
    const handover = this.#begun(
      migrationId,
      (about, ports) => new Handover(ports, side, about),
      session,
    );
    if (!isActive) void this.#watch(migrationId, handover);
    return handover;
  }

  /** Goes on with what the last daemon left. */
  recover(migration: MigrationRecord): void {
    const { migrationId, vm, direction, state } = migration;
    if (state === 'active') {
      this.beginDestination(migrationId, { started: () => undefined });
      return;
    }
    const claim = this.#parts.inventory.claim(vm, 'VM_MIGRATING');
    const release = () => claim[Symbol.dispose]();
    const handover =
      direction === 'outgoing'
        ? this.beginSource(migrationId, {})
        : this.beginDestination(migrationId, { started: release });
    void handover.settled.then(release);
  }

  /** Who takes the pages of a migration that are still to come here. */
  pull(migrationId: string): PagePull | undefined {
    return this.#pulls.get(migrationId);
  }

  get(migrationId: string): HandoverUnderWay | undefined {
    return this.#underWay.get(migrationId);
  }

  /** Asks the other host now; resolves when it is settled, or after as long as an answer may take. */
  async ask(migrationId: string): Promise<void> {
    const handover = this.#underWay.get(migrationId);
    if (handover === undefined) return;
    handover.askNow();
    await this.#answered(handover);
  }

  /** An operator states that the other host was fenced. Throws MIGRATION_UNKNOWN, VM_STATE, PAGES_OWED. */
  async fence(migrationId: string, operator: string): Promise<void> {
    const { store, inventory, clock } = this.#parts;
    const record = store.migration(migrationId);
    if (record === undefined) throw new MigError('MIGRATION_UNKNOWN', migrationId);
    const handover = this.#underWay.get(migrationId);
    if (handover === undefined) throw new MigError('VM_STATE', 'the migration is not in doubt');
    const { vm, direction } = record;
    const fencing = { operator, atMs: clock.wall() };
    if (arrivalOf(record, handover.state) === 'coming') {
      throw new MigError('PAGES_OWED', `without those at ${record.from} it can never be whole`);
    }
    if (record.state === 'active') {
      await store.write(sourceFenced(record, fencing));
      return;
    }
    if (record.destroying !== undefined) {
      throw new MigError(
        'VM_STATE',
        'it runs there, as that host said; it is being destroyed here',
      );
    }
    if (direction === 'outgoing' && (await inventory.find(vm)) === 'gone') {
      throw new MigError('VM_STATE', 'nothing of it is left here that could run');
    }
    handover.fence(fencing);
    await this.#answered(handover);
  }

  /**
   * Throws PAGES_OWED while pages of a VM that came here are still at its source, and IN_DOUBT while that
   * may still have it back: for it could be told, and truly, that this host is off, when the VM has
   * long gone on to a third. Asks, and waits a bounded time.
   */
  async checkArrived(vm: string): Promise<void> {
    const { store, clock } = this.#parts;
    const migrationId = store.vm(vm)?.migrationId ?? '';
    const handover = this.#underWay.get(migrationId);
    if (handover === undefined || this.arrival(vm) === 'arrived') return;
    if (isAlone(handover.state)) handover.askNow();
    const limit = Promise.withResolvers<'late'>();
    const timer = clock.after(IN_DOUBT_ANSWER_MS_MAX, () => limit.resolve('late'));
    const first = await Promise.race([handover.settled, limit.promise]);
    timer.cancel();
    if (first !== 'late') return;
    switch (this.arrival(vm)) {
      case 'coming':
        throw new MigError('PAGES_OWED', `${migrationId}: part of it is not here yet`);
      case 'owed':
        throw new MigError(
          'IN_DOUBT',
          `${migrationId}: its source has not said that it is gone there`,
        );
      case 'arrived':
    }
  }

  /** How far a VM is here. */
  arrival(vm: string): Arrival {
    const { store } = this.#parts;
    const migrationId = store.vm(vm)?.migrationId ?? '';
    return arrivalOf(store.migration(migrationId), this.#underWay.get(migrationId)?.state);
  }

  list(): HandoverView[] {
    return [...this.#underWay].flatMap(([migrationId, { state, cause, isDecided }]) => {
      const record = this.#parts.store.migration(migrationId);
      const doubt = isDecided ? null : (cause ?? null);
      return record === undefined ? [] : [{ record, state, doubt }];
    });
  }

  /** Lets end what has a link; what has none goes on when the daemon is back. */
  async stop(): Promise<void> {
    const all = [...this.#underWay.values()];
    const linked = all.filter(({ state }) => !isAlone(state));
    await Promise.all(linked.map((each) => Promise.race([each.settled, each.unanswered])));
    for (const each of all) each.stop();
  }

  async #answered(handover: HandoverUnderWay): Promise<void> {
    const limit = Promise.withResolvers<void>();
    const timer = this.#parts.clock.after(IN_DOUBT_ANSWER_MS_MAX, () => limit.resolve());
    await Promise.race([handover.decided, limit.promise]);
    timer.cancel();
  }

  #begun(
    migrationId: string,
    make: (
      about: ConstructorParameters<typeof Handover>[2],
      ports: HandoverPorts,
    ) => HandoverUnderWay,
    { link, observe }: Begun,
  ): HandoverUnderWay {
    const { store, clock, random, identity, silenceMs } = this.#parts;
    const record = store.migration(migrationId);
    const subject = record && subjectOf(record);
    if (record?.handover === undefined || subject === undefined) {
      throw new MigError('INTERNAL', 'a handover without its record');
    }
    const { transcriptDigest, final, leavesPages = false } = record.handover;
    const other = record.direction === 'outgoing' ? record.to : record.from;
    const handover = make(
      {
        subject,
        transcriptDigest,
        leavesPages,
        final,
        link,
        observe,
        doubted: (cause) => this.#parts.doubted(record, cause),
      },
      {
        clock,
        random,
        hostKey: () => identity().hostKey,
        silenceMs,
        connect: (signal) => this.#connect(other, signal),
      },
    );
    this.#underWay.set(migrationId, handover);
    void this.#forget(record, handover);
    return handover;
  }

  async #forget(record: MigrationRecord, handover: HandoverUnderWay): Promise<void> {
    const settlement = await handover.settled;
    this.#underWay.delete(record.migrationId);
    await this.#pulls.get(record.migrationId)?.close();
    this.#pulls.delete(record.migrationId);
    if (settlement.code === 'TWO_LIVES') {
      // For `history`; where it cannot be written the next daemon asks, and hears it, again.
      const { store } = this.#parts;
      await store
        .write(contradicted(migrationOf(store, record.migrationId)))
        .catch(() => undefined);
    }
    this.#parts.settled(record, settlement);
  }

  async #connect(other: string, signal: AbortSignal): Promise<Conversation> {
    const { peers, identity } = this.#parts;
    const address = peers[other];
    if (address === undefined) throw new MigError('HOST_UNKNOWN', other);
    const channel = await connectControl({
      address,
      path: HANDOVER_PATH,
      expected: other,
      identity: identity().identity,
      signal,
    });
    return new Conversation(channel, 'source');
  }

  /** While it is only prepared here, a guest that is gone settles it: proved, not guessed. */
  async #watch(migrationId: string, handover: HandoverUnderWay): Promise<void> {
    const { store, inventory } = this.#parts;
    const name = store.migration(migrationId)?.vm ?? '';
    const found = await inventory.find(name);
    if (found === 'gone') handover.lost();
    if (typeof found === 'string') return;
    const gone = () => void this.#watch(migrationId, handover);
    found.gone.addEventListener('abort', gone, { once: true });
    void handover.settled.then(() => found.gone.removeEventListener('abort', gone));
  }
}
