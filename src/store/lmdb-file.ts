/**
 * The two files of an LMDB environment, looked at before LMDB maps them: a page that is not there, or
 * cannot be had, ends the process when it is touched, and a damaged beginning crashes the binding. It
 * knows the layout of LMDB's meta pages, which are the first two and name the newest root in turns.
 */
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  rmSync,
  statSync,
} from 'node:fs';
import { reserve } from '../native/file-room.ts';
import { MigError } from '../protocol/error.ts';

const LOCK_BYTES = 16 * 1024;
/** Pages that a commit writes besides its values: a path in each table, splits, the list of free pages. */
const COMMIT_BYTES = 128 * 1024;
/** Kept for commits on a full disk: some sixty small ones, as a handover owes them. */
const BALLAST_BYTES = 256 * 1024;

/** Offsets in a meta page; little-endian (mdb.c: MDB_page, MDB_meta). */
const META = { magic: 24, version: 28, pageBytes: 48, lastPage: 144, txnId: 152, end: 160 };
const MAGIC = 0xbeef_c0de;
const VERSION = 2;

/** Whether `file` is there. Throws STORE_FAILED when it is no LMDB file, or not all of it is there. */
export function checkFile(file: string): boolean {
  const size = statSync(file, { throwIfNoEntry: false })?.size;
  if (size === undefined) return false;
  if (size < usedBytes(file)) throw damaged(file, 'truncated');
  return true;
}

/**
 * Makes sure of room for a commit of `bytes` of values, with ballast where the disk has that much.
 * Throws STORE_FAILED. LMDB itself must not find the disk full: its error text then overflows the
 * buffer that it is made in.
 */
export function makeRoom(file: string, bytes: number): void {
  const need = usedBytes(file) + COMMIT_BYTES + 2 * bytes;
  const descriptor = openSync(file, 'r+');
  try {
    if (fstatSync(descriptor).size < need + BALLAST_BYTES / 2) {
      reserve(descriptor, need + BALLAST_BYTES);
    }
  } catch {
    // The ballast is for such a disk.
    if (fstatSync(descriptor).size < need) reserve(descriptor, need);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Makes the lock file, all of it there: LMDB would leave a hole and fall into it. Where a commit would
 * have no room, neither has this. Throws STORE_FAILED.
 */
export function makeLock(file: string): void {
  const descriptor = openSync(lockOf(file), 'w', 0o600);
  try {
    reserve(descriptor, COMMIT_BYTES);
    ftruncateSync(descriptor, LOCK_BYTES);
  } catch (thrown) {
    rmSync(lockOf(file));
    throw thrown;
  } finally {
    closeSync(descriptor);
  }
}

export const lockOf = (file: string): string => `${file}-lock`;

/** Makes what was written to a file, or the names of a directory, durable. */
export const sync = (file: string): void => withFile(file, fsyncSync);

/** Up to its last page; what follows is room. */
function usedBytes(file: string): number {
  const pageBytes = readMeta(file, 0).readUInt32LE(META.pageBytes);
  const metas = [readMeta(file, 0), readMeta(file, pageBytes)];
  const lastPages = metas.map((meta) => Number(meta.readBigUInt64LE(META.lastPage)));
  const [first = 0n, second = 0n] = metas.map((meta) => meta.readBigUInt64LE(META.txnId));
  return ((lastPages[first > second ? 0 : 1] ?? 0) + 1) * pageBytes;
}

function readMeta(file: string, at: number): Buffer {
  const meta = Buffer.alloc(META.end);
  withFile(file, (descriptor) => readSync(descriptor, meta, 0, meta.length, at));
  const isMeta =
    meta.readUInt32LE(META.magic) === MAGIC && meta.readUInt32LE(META.version) === VERSION;
  if (!isMeta) throw damaged(file, 'no database of this version');
  return meta;
}

const damaged = (file: string, how: string) => new MigError('STORE_FAILED', `${file}: ${how}`);

function withFile(file: string, use: (descriptor: number) => void): void {
  const descriptor = openSync(file, 'r');
  try {
    use(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
