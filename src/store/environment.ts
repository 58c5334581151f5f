/**
 * One LMDB file: its tables, and transactions that are on disk when they return. LMDB never writes
 * over a page that a committed state uses: a transaction writes pages that are free, syncs them, and
 * then commits by one synced write to the meta page that names the newest root. A failure before that
 * last write leaves nothing. After a failure of that very write the disk may hold either state, and
 * LMDB refuses to go on until the file is opened anew.
 */
import { existsSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { open, type Database, type RootDatabase } from 'lmdb';
import { keepDescriptors } from '../native/descriptors.ts';
import { MigError } from '../protocol/error.ts';
import { checkFile, lockOf, makeLock, makeRoom, sync } from './lmdb-file.ts';

export type Table = Database<unknown, string | number>;
export type Tables<Name extends string> = { readonly [N in Name]: Table };

interface Opened<Name extends string> {
  readonly root: RootDatabase;
  readonly tables: Tables<Name>;
}

export class Environment<Name extends string> {
  readonly #file: string;
  readonly #names: readonly Name[];
  #opened: Opened<Name> | undefined;
  /** The last commit may be on disk or not; the next one that succeeds ends that. */
  #isUncertain = false;

  /** Opens, or makes, `file`. Throws STORE_FAILED. */
  constructor(file: string, names: readonly Name[]) {
    this.#file = file;
    this.#names = names;
    this.#open();
  }

  get isUncertain(): boolean {
    return this.#isUncertain;
  }

  /** As of the last commit that succeeded; where one is uncertain, as the file has it. */
  get tables(): Tables<Name> {
    return (this.#opened ?? this.#open()).tables;
  }

  /**
   * Makes all of what `change` does durable, which puts values of `bytes`. Throws STORE_FAILED:
   * nothing of it is, or ever will be, on disk. Throws STORE_UNCERTAIN: it, or a change before it that
   * was uncertain, may be; to be tried again until it succeeds. What `change` throws undoes it.
   */
  commit(bytes: number, change: (tables: Tables<Name>) => void): void {
    try {
      makeRoom(this.#file, bytes);
      this.#transact(change);
      this.#isUncertain = false;
    } catch (thrown) {
      if (this.#isGivenUp()) {
        this.#isUncertain = true;
        this.close();
      }
      const failure = MigError.from(thrown, 'STORE_FAILED');
      if (!this.#isUncertain) throw failure;
      throw new MigError('STORE_UNCERTAIN', failure.detail, { cause: failure });
    }
  }

  close(): void {
    // Nothing is under way between two synchronous transactions: it is closed when this returns.
    void this.#opened?.root.close();
    this.#opened = undefined;
  }

  #transact(change: (tables: Tables<Name>) => void): void {
    const { root, tables } = this.#opened ?? this.#open();
    root.transactionSync(() => change(tables));
  }

  /** LMDB refuses even an empty transaction after a failed write of the commit itself. */
  #isGivenUp(): boolean {
    if (this.#opened === undefined) return false;
    try {
      this.#transact(() => undefined);
      return false;
    } catch {
      return true;
    }
  }

  #open(): Opened<Name> {
    let root: RootDatabase | undefined;
    try {
      if (!checkFile(this.#file)) this.#create();
      if (!existsSync(lockOf(this.#file))) makeLock(this.#file);
      // What is found is what a power cut would find, before anything is written over it.
      sync(this.#file);
      root = this.#map(this.#file);
      // LMDB leaves its file to every process that is started from here.
      keepDescriptors();
      // A full disk must not keep a daemon from its guests: what is there needs no room.
      const made = new Set(root.getKeys());
      if (!this.#names.every((name) => made.has(name))) makeRoom(this.#file, 0);
      const tables: Partial<Record<Name, Table>> = {};
      for (const name of this.#names) tables[name] = root.openDB({ name });
      this.#opened = { root, tables: tables as Tables<Name> };
      return this.#opened;
    } catch (thrown) {
      // Left open it would be found again by the next try, in whatever state it is.
      void root?.close();
      throw MigError.from(thrown, 'STORE_FAILED');
    }
  }

  /** A file has its name when all of it is there: one that was begun would be taken for a damaged one. */
  #create(): void {
    const draft = `${this.#file}.new`;
    try {
      rmSync(draft, { force: true });
      makeLock(draft);
      void this.#map(draft).close();
      sync(draft);
      renameSync(lockOf(draft), lockOf(this.#file));
      renameSync(draft, this.#file);
      sync(path.dirname(this.#file));
    } catch (thrown) {
      for (const left of [draft, lockOf(draft)]) rmSync(left, { force: true });
      throw thrown;
    }
  }

  #map(file: string): RootDatabase {
    return open({
      path: file,
      // A separate flush step would let a commit return before it is on disk.
      overlappingSync: false,
      maxDbs: this.#names.length,
    });
  }
}
