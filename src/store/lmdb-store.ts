/**
 * The record store on LMDB: copy-on-write pages, one synced commit a write, readers never wait.
 * Values are msgpack maps; each is checked against its schema when read, so that a file from another
 * version or a damaged one is refused and not believed.
 */
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { open, type Database, type RootDatabase } from 'lmdb';
import type { z } from 'zod';
import { MigError } from '../protocol/error.ts';
import {
  migrationRecordSchema,
  vmRecordSchema,
  type MigrationRecord,
  type RecordStore,
  type VmRecord,
} from './records.ts';

/** Raised when the form of the records changes. */
const SCHEMA_VERSION = 1;

/** Opens, or makes, the store in `directory`. Throws STORE_FAILED. */
export function openStore(directory: string): RecordStore {
  try {
    return new LmdbStore(directory);
  } catch (thrown) {
    throw MigError.from(thrown, 'STORE_FAILED');
  }
}

class LmdbStore implements RecordStore {
  readonly #root: RootDatabase;
  readonly #vms: Database<unknown, string>;
  readonly #migrations: Database<unknown, string>;

  constructor(directory: string) {
    if (!existsSync(directory)) mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#root = open({
      path: path.join(directory, 'records.lmdb'),
      // A separate flush step would let a commit return before it is on disk.
      overlappingSync: false,
      maxDbs: 4,
    });
    const meta = this.#root.openDB<number, string>({ name: 'meta' });
    const version = meta.get('version');
    if (version === undefined) meta.putSync('version', SCHEMA_VERSION);
    else if (version !== SCHEMA_VERSION) {
      throw new MigError('STORE_FAILED', `records of version ${version}`);
    }
    this.#vms = this.#root.openDB({ name: 'vms' });
    this.#migrations = this.#root.openDB({ name: 'migrations' });
  }

  vm(name: string): VmRecord | undefined {
    return parse(vmRecordSchema, this.#vms.get(name));
  }

  vms(): VmRecord[] {
    return [...this.#vms.getRange()].map(({ value }) => vmRecordSchema.parse(value));
  }

  migration(id: string): MigrationRecord | undefined {
    return parse(migrationRecordSchema, this.#migrations.get(id));
  }

  // Ids are UUIDv7, so the order of the keys is the order of time.
  migrations(): MigrationRecord[] {
    return [...this.#migrations.getRange()].map(({ value }) => migrationRecordSchema.parse(value));
  }

  write(change: Parameters<RecordStore['write']>[0]): Promise<void> {
    try {
      this.#root.transactionSync(() => {
        if (change.vm !== undefined) this.#vms.putSync(change.vm.name, change.vm);
        if (change.removeVm !== undefined) this.#vms.removeSync(change.removeVm);
        if (change.migration !== undefined) {
          this.#migrations.putSync(change.migration.migrationId, change.migration);
        }
      });
      return Promise.resolve();
    } catch (thrown) {
      return Promise.reject(MigError.from(thrown, 'STORE_FAILED'));
    }
  }

  close(): Promise<void> {
    return this.#root.close();
  }
}

function parse<T extends z.ZodType>(schema: T, value: unknown): z.infer<T> | undefined {
  if (value === undefined) return undefined;
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new MigError('STORE_FAILED', `a damaged record: ${parsed.error.issues[0]?.message}`);
}
