/**
 * The record store on LMDB: copy-on-write pages, one synced commit a write, readers never wait.
 * Values are msgpack maps; each is checked against its schema when read, so that a file from another
 * version or a damaged one is refused and not believed.
 */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { pack } from 'msgpackr';
import { z } from 'zod';
import { MigError } from '../protocol/error.ts';
import { migrationIdSchema } from '../protocol/options.ts';
import { Environment, type Tables } from './environment.ts';
import {
  epochSchema,
  migrationRecordSchema,
  vmRecordSchema,
  type Change,
  type MigrationRecord,
  type RecordStore,
  type VmRecord,
} from './records.ts';

/** Raised when the form of the records changes. 2: `epochs` and `order`. */
const SCHEMA_VERSION = 2;

/** A new file has none. */
const versionSchema = z.number().int().min(1).default(1);

const TABLES = ['meta', 'vms', 'epochs', 'migrations', 'order'] as const;
type Records = Tables<(typeof TABLES)[number]>;

/**
 * Opens the store in `directory`, or makes it; where it `isKnown` that there were records, none are a
 * loss and not a beginning. Throws STORE_FAILED.
 */
export function openStore(
  directory: string,
  { isKnown = false }: { readonly isKnown?: boolean } = {},
): RecordStore {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    return new LmdbStore(path.join(directory, 'records.lmdb'), isKnown);
  } catch (thrown) {
    throw MigError.from(thrown, 'STORE_FAILED');
  }
}

class LmdbStore implements RecordStore {
  readonly #environment: Environment<(typeof TABLES)[number]>;

  constructor(file: string, isKnown: boolean) {
    this.#environment = new Environment(file, TABLES);
    try {
      const isNew = !this.#tables.meta.doesExist('version');
      if (isNew && isKnown)
        throw new MigError('STORE_FAILED', 'VMs are here, and no records of them');
      this.#migrate();
    } catch (thrown) {
      this.#environment.close();
      throw thrown;
    }
  }

  vm(name: string): VmRecord | undefined {
    return parse(vmRecordSchema.optional(), this.#tables.vms.get(name));
  }

  vms(): VmRecord[] {
    return all(vmRecordSchema, this.#tables.vms);
  }

  epochOf(vmId: string): number {
    return parse(epochSchema.default(0), this.#tables.epochs.get(vmId));
  }

  migration(id: string): MigrationRecord | undefined {
    return parse(migrationRecordSchema.optional(), this.#tables.migrations.get(id));
  }

  migrations(): MigrationRecord[] {
    const { order, migrations } = this.#tables;
    return all(migrationIdSchema, order).map((id) =>
      parse(migrationRecordSchema, migrations.get(id)),
    );
  }

  // It blocks: a commit lies in the guest's downtime, and a turn through a thread pool is longer.
  async write(change: Change): Promise<void> {
    if (change.vm?.state === 'active') this.#checkEpoch(change.vm);
    this.#environment.commit(pack(change).length, (tables) => put(tables, change));
  }

  async confirm(): Promise<void> {
    if (!this.#environment.isUncertain) return;
    // Any commit settles those before it.
    this.#environment.commit(0, ({ meta }) => meta.putSync('version', SCHEMA_VERSION));
  }

  async close(): Promise<void> {
    this.#environment.close();
  }

  get #tables(): Records {
    return this.#environment.tables;
  }

  #checkEpoch({ vmId, epoch }: VmRecord): void {
    const highest = this.epochOf(vmId);
    if (epoch < highest) throw new MigError('EPOCH_STALE', `epoch ${epoch}, was ${highest} here`);
  }

  #migrate(): void {
    const version = parse(versionSchema, this.#tables.meta.get('version'));
    if (version === SCHEMA_VERSION) return;
    if (version > SCHEMA_VERSION) {
      throw new MigError('STORE_FAILED', `records of version ${version}`);
    }
    const vms = this.vms();
    const migrations = all(migrationRecordSchema, this.#tables.migrations);
    const bytes = pack([vms, migrations]).length;
    this.#environment.commit(bytes, (tables) => {
      for (const vm of vms) if (wasActive(vm)) tables.epochs.putSync(vm.vmId, vm.epoch);
      for (const { migrationId } of migrations) append(tables.order, migrationId);
      tables.meta.putSync('version', SCHEMA_VERSION);
    });
  }
}

function put(tables: Records, { vm, removeVm, migration }: Change): void {
  if (vm !== undefined) tables.vms.putSync(vm.name, vm);
  if (vm?.state === 'active') tables.epochs.putSync(vm.vmId, vm.epoch);
  if (removeVm !== undefined) tables.vms.removeSync(removeVm);
  if (migration !== undefined) {
    const { migrationId } = migration;
    if (!tables.migrations.doesExist(migrationId)) append(tables.order, migrationId);
    tables.migrations.putSync(migrationId, migration);
  }
}

/** Numbers what comes by when it came: clocks may step, and other hosts' ids tell of other clocks. */
function append(order: Records['order'], migrationId: string): void {
  const [last = 0] = order.getKeys({ reverse: true, limit: 1 });
  order.putSync(Number(last) + 1, migrationId);
}

/** Whether it ever ran here with its epoch: what is only prepared did not. */
const wasActive = ({ state }: VmRecord): boolean => state !== 'prepared';

const all = <T extends z.ZodType>(schema: T, table: Records['vms']): z.infer<T>[] =>
  [...table.getRange()].map(({ value }) => parse(schema, value));

function parse<T extends z.ZodType>(schema: T, value: unknown): z.infer<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new MigError('STORE_FAILED', `a damaged record: ${parsed.error.issues[0]?.message}`);
}
