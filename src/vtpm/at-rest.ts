/**
 * A vTPM's state at rest: a directory of its own (0700) that holds `key`, 32 random bytes, and
 * `state`, sealed under it (`sealed-state.ts`). The guest process saves and loads; the daemon
 * destroys. Knows nothing of what the state means.
 *
 * Earlier versions of `state` may linger in free blocks of the disk; all of them are sealed under
 * `key`, which never changes and is the first thing to go: with it every copy becomes unreadable.
 */
import { hash } from 'node:crypto';
import { mkdir, readdir, rename, rmdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Random } from '../base/ports.ts';
import { MigError } from '../protocol/error.ts';
import {
  overwrite,
  PRIVATE_DIRECTORY_MODE,
  readStart,
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
  /** Files overwritten and unlinked by this call. */
  readonly filesDestroyed: number;
  readonly bytesOverwritten: number;
}

/** One vTPM's directory. Calls must not overlap: one that does is refused with VTPM_FAILED. */
export class VtpmAtRest {
  readonly #path: string;
  readonly #random: Random;
  #busy = false;

  constructor(path: string, random: Random) {
    this.#path = path;
    this.#random = random;
  }

  /**
   * Makes the directory, in a parent that exists, and its key, durably. An existing key is refused,
   * never replaced; one that a crash left half written makes `load` fail, and `destroy` clears it.
   */
  async create(): Promise<void> {
    await this.#alone('create', async () => {
      await ignoring('EEXIST', mkdir(this.#path, { mode: PRIVATE_DIRECTORY_MODE }));
      const key = Buffer.alloc(DIRECTORY_KEY_BYTES);
      const random = this.#random.bytes(DIRECTORY_KEY_BYTES);
      key.set(random);
      random.fill(0);
      try {
        await writeSynced(this.#file(KEY), key, 'new');
      } finally {
        key.fill(0);
      }
      await syncDirectory(this.#path);
      await syncDirectory(dirname(this.#path));
    });
  }

  /**
   * Replaces the saved state, atomically and durably: when it returns the new one is on disk, when
   * it fails or is cut off the old one is still there. `state` stays the caller's to wipe.
   */
  async save(state: Uint8Array): Promise<void> {
    await this.#alone('save', async () => {
      const counter = (await this.#lastCounter()) + 1;
      const sealed = await this.#withKey((key) => seal(state, key, counter, this.#random));
      await writeSynced(this.#file(STATE_TEMP), sealed, 'replace');
      await rename(this.#file(STATE_TEMP), this.#file(STATE));
      await syncDirectory(this.#path);
    });
  }

  /** The last saved state, in clear, in a buffer that the caller wipes. */
  async load(): Promise<Buffer> {
    return this.#alone('load', async () => {
      const sealed = await readStart(this.#file(STATE), SEALED_BYTES_MAX + 1);
      return this.#withKey((key) => open(sealed, key));
    });
  }

  /**
   * Destroys everything, durably: the key overwritten and synced first, then the state and what an
   * interrupted save left, then all unlinked and the directory removed. Idempotent; after a cut it
   * goes on where it was, and its facts are of what it still found. A file that is not the vTPM's
   * is left and reported with VTPM_FAILED, after the destruction.
   */
  async destroy(): Promise<VtpmDestruction> {
    return this.#alone('destroy', async () => {
      const names = (await ignoring('ENOENT', readdir(this.#path))) ?? [];
      let filesDestroyed = 0;
      let bytesOverwritten = 0;
      let stateDigest: Uint8Array | null = null;
      for (const name of FILES) {
        if (name === STATE) stateDigest = await this.#stateDigest();
        const bytes = await overwrite(this.#file(name), this.#random);
        if (bytes === null) continue;
        filesDestroyed += 1;
        bytesOverwritten += bytes;
      }
      for (const name of FILES) if (names.includes(name)) await unlink(this.#file(name));
      await ignoring('ENOENT', syncDirectory(this.#path));
      await ignoring('ENOENT', rmdir(this.#path));
      await ignoring('ENOENT', syncDirectory(dirname(this.#path)));
      return { stateDigest, filesDestroyed, bytesOverwritten };
    });
  }

  #file(name: (typeof FILES)[number]): string {
    return join(this.#path, name);
  }

  /** One operation at a time, its failures coded without naming paths or contents. */
  async #alone<T>(what: string, work: () => Promise<T>): Promise<T> {
    if (this.#busy) throw new MigError('VTPM_FAILED', `${what}: another call is under way`);
    this.#busy = true;
    try {
      return await work();
    } catch (thrown) {
      if (thrown instanceof MigError) throw thrown;
      throw new MigError('VTPM_FAILED', `${what}: ${systemCode(thrown)}`, { cause: thrown });
    } finally {
      this.#busy = false;
    }
  }

  /** Lends the key, read for this use only and wiped after it. */
  async #withKey<T>(use: (key: Buffer) => T): Promise<T> {
    const key = await readStart(this.#file(KEY), DIRECTORY_KEY_BYTES + 1);
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
  async #lastCounter(): Promise<number> {
    const header = await ignoring('ENOENT', readStart(this.#file(STATE), SEALED_HEADER_BYTES));
    return (header === undefined ? null : savedCounter(header)) ?? 0;
  }

  /** Digest of the state file; null without one and for what is no state (any more). */
  async #stateDigest(): Promise<Uint8Array | null> {
    const sealed = await ignoring('ENOENT', readStart(this.#file(STATE), SEALED_BYTES_MAX + 1));
    if (sealed === undefined || sealed.length > SEALED_BYTES_MAX) return null;
    if (!sealed.subarray(0, SEALED_MAGIC.length).equals(SEALED_MAGIC)) return null;
    return new Uint8Array(hash('sha384', sealed, 'buffer'));
  }
}

/** The outcome of `work`; undefined where the system failed it with the error `code`. */
async function ignoring<T>(code: string, work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (thrown) {
    if (systemCode(thrown) === code) return undefined;
    throw thrown;
  }
}
