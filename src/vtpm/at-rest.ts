/**
 * A vTPM's state at rest: a directory of its own (0700) that holds `key`, 32 random bytes, and
 * `state`, sealed under it (`sealed-state.ts`). The guest process saves and loads; the daemon
 * destroys. Knows nothing of what the state means.
 *
 * Earlier versions of `state` may linger in free blocks of the disk; all of them are sealed under
 * `key`, which never changes and is the first thing to go: with it every copy becomes unreadable.
 */
import { hash } from 'node:crypto';
import { mkdirSync, renameSync } from 'node:fs';
import { rmdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Random } from '../base/ports.ts';
import { MigError } from '../protocol/error.ts';
import {
  fileBytes,
  overwrite,
  PRIVATE_DIRECTORY_MODE,
  readStart,
  settleDirectory,
  syncDirectory,
  systemCode,
  writeSynced,
} from './durable-file.ts';
import {
  DIRECTORY_KEY_BYTES,
  open,
  seal,
  SEALED_BYTES_MAX,
  SEALED_HEADER_BYTES,
  SEALED_MAGIC,
  savedCounter,
} from './sealed-state.ts';

const KEY = 'key';
const STATE = 'state';
/** The next state while it is written; a crash may leave one, the next save replaces it. */
const STATE_TEMP = 'state.tmp';
/** In the order of destruction: without the key the rest is noise. */
const FILES = [KEY, STATE, STATE_TEMP] as const;

/** What a deletion certificate says about a destroyed state. */
export interface VtpmDestruction {
  /** SHA-384 of the sealed state file as it was; null if there was none (any more). */
  readonly stateDigest: Uint8Array | null;
  /** Files to overwrite and unlink, or done so by that call. */
  readonly filesDestroyed: number;
  readonly bytesOverwritten: number;
}

/**
 * One vTPM's directory. Everything but `destroy` blocks until it is on disk; while a `destroy` is
 * under way every other call is refused. All failures are VTPM_FAILED.
 */
export class VtpmAtRest {
  readonly #path: string;
  readonly #random: Random;
  #destroying = false;

  constructor(path: string, random: Random) {
    this.#path = path;
    this.#random = random;
  }

  /**
   * Makes the directory, in a parent that exists, and its key. An existing key is refused, never
   * replaced; one that a crash left half written makes `load` fail, and `destroy` clears it.
   */
  create(): void {
    this.#perform('create', () => {
      unless('EEXIST', () => mkdirSync(this.#path, { mode: PRIVATE_DIRECTORY_MODE }));
      const key = this.#random.bytes(DIRECTORY_KEY_BYTES);
      try {
        writeSynced(this.#file(KEY), key, 'new');
      } finally {
        key.fill(0);
      }
      syncDirectory(this.#path);
      syncDirectory(dirname(this.#path));
    });
  }

  /**
   * Replaces the saved state, atomically and durably: when it returns the new one is on disk, when
   * it fails or is cut off the old one is still there. `state` stays the caller's to wipe.
   */
  save(state: Uint8Array): void {
    this.#perform('save', () => {
      const counter = this.#lastCounter() + 1;
      const sealed = this.#withKey((key) => seal(state, key, counter, this.#random));
      writeSynced(this.#file(STATE_TEMP), sealed, 'replace');
      renameSync(this.#file(STATE_TEMP), this.#file(STATE));
      syncDirectory(this.#path);
    });
  }

  /** The last saved state, in clear, in a buffer that the caller wipes. */
  load(): Buffer {
    return this.#perform('load', () => {
      const sealed = readStart(this.#file(STATE), SEALED_BYTES_MAX + 1);
      return this.#withKey((key) => open(sealed, key));
    });
  }

  /** What `destroy` would find. */
  inspect(): VtpmDestruction {
    return this.#perform('inspect', () => {
      const sizes = FILES.map((name) => fileBytes(this.#file(name))).filter(
        (bytes) => bytes !== null,
      );
      return {
        stateDigest: this.#stateDigest(),
        filesDestroyed: sizes.length,
        bytesOverwritten: sizes.reduce((sum, bytes) => sum + bytes, 0),
      };
    });
  }

  /**
   * Destroys everything, durably: the key overwritten and synced first, then the state and what an
   * interrupted save left, then all unlinked and the directory removed. Idempotent; after a cut it
   * goes on where it was, and its facts are of what it still found. A file that is not the vTPM's
   * is left and reported with VTPM_FAILED, after the destruction.
   */
  async destroy(): Promise<VtpmDestruction> {
    this.#refuseWhileDestroying('destroy');
    this.#destroying = true;
    try {
      return await this.#destroyFiles();
    } catch (thrown) {
      throw coded('destroy', thrown);
    } finally {
      this.#destroying = false;
    }
  }

  async #destroyFiles(): Promise<VtpmDestruction> {
    let filesDestroyed = 0;
    let bytesOverwritten = 0;
    let stateDigest: Uint8Array | null = null;
    for (const name of FILES) {
      if (name === STATE) stateDigest = this.#stateDigest();
      const bytes = await overwrite(this.#file(name), this.#random);
      if (bytes === null) continue;
      filesDestroyed += 1;
      bytesOverwritten += bytes;
    }
    const unlinked = FILES.map((name) => () => unlink(this.#file(name)));
    const settled = [
      () => settleDirectory(this.#path),
      () => rmdir(this.#path),
      () => settleDirectory(dirname(this.#path)),
    ];
    for (const step of [...unlinked, ...settled]) await unlessMissing(step);
    return { stateDigest, filesDestroyed, bytesOverwritten };
  }

  #file(name: (typeof FILES)[number]): string {
    return join(this.#path, name);
  }

  #perform<T>(what: string, work: () => T): T {
    this.#refuseWhileDestroying(what);
    try {
      return work();
    } catch (thrown) {
      throw coded(what, thrown);
    }
  }

  #refuseWhileDestroying(what: string): void {
    if (this.#destroying) throw new MigError('VTPM_FAILED', `${what}: it is being destroyed`);
  }

  /** Lends the key, read for this use only and wiped after it. */
  #withKey<T>(use: (key: Buffer) => T): T {
    const key = readStart(this.#file(KEY), DIRECTORY_KEY_BYTES + 1);
    try {
      if (key.length !== DIRECTORY_KEY_BYTES) {
        throw new MigError('VTPM_FAILED', 'the key of the saved state has the wrong length');
      }
      return use(key);
    } finally {
      key.fill(0);
    }
  }

  /** The counter of the state on disk, 0 without one; only a running number (see `seal`). */
  #lastCounter(): number {
    const header = unless('ENOENT', () => readStart(this.#file(STATE), SEALED_HEADER_BYTES));
    return (header === undefined ? null : savedCounter(header)) ?? 0;
  }

  /** Digest of the state file; null without one and for what is no state (any more). */
  #stateDigest(): Uint8Array | null {
    const sealed = unless('ENOENT', () => readStart(this.#file(STATE), SEALED_BYTES_MAX + 1));
    if (sealed === undefined || sealed.length > SEALED_BYTES_MAX) return null;
    if (!sealed.subarray(0, SEALED_MAGIC.length).equals(SEALED_MAGIC)) return null;
    return new Uint8Array(hash('sha384', sealed, 'buffer'));
  }
}

/** A failure with its code, without naming paths or contents. */
const coded = (what: string, thrown: unknown): MigError =>
  thrown instanceof MigError
    ? thrown
    : new MigError('VTPM_FAILED', `${what}: ${systemCode(thrown)}`, { cause: thrown });

/** The outcome of `work`; undefined where the system failed it with the error `code`. */
function unless<T>(code: string, work: () => T): T | undefined {
  try {
    return work();
  } catch (thrown) {
    if (systemCode(thrown) === code) return undefined;
    throw thrown;
  }
}

async function unlessMissing(step: () => Promise<void>): Promise<void> {
  try {
    await step();
  } catch (thrown) {
    if (systemCode(thrown) !== 'ENOENT') throw thrown;
  }
}
