/**
 * The two files of an LMDB environment, looked at before LMDB maps them: a page that is not there, or
 * cannot be had, ends the process when it is touched, and a damaged beginning crashes the binding. It
 * knows the layout of LMDB's meta pages, which are the first two and name the newest root in turns.
 */
import {
  closeSync,
  fsyncSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { MigError } from '../protocol/error.ts';

/** What a new environment takes at most until its first tables are there. */
const NEW_BYTES = 128 * 1024;
const LOCK_BYTES = 16 * 1024;

/** Offsets in a meta page; little-endian (mdb.c: MDB_page, MDB_meta). */
const META = { magic: 24, version: 28, pageBytes: 48, lastPage: 144, txnId: 152, end: 160 };
const MAGIC = 0xbeef_c0de;
const VERSION = 2;

/** Whether `file` is there. Throws STORE_FAILED when it is no LMDB file, or not all of it is there. */
export function checkFile(file: string): boolean {
  const size = statSync(file, { throwIfNoEntry: false })?.size;
  if (size === undefined) return false;
  const pageBytes = readMeta(file, 0).readUInt32LE(META.pageBytes);
  const metas = [readMeta(file, 0), readMeta(file, pageBytes)];
  const lastPages = metas.map((meta) => Number(meta.readBigUInt64LE(META.lastPage)));
  const [first = 0n, second = 0n] = metas.map((meta) => meta.readBigUInt64LE(META.txnId));
  const lastPage = lastPages[first > second ? 0 : 1] ?? 0;
  if (size < (lastPage + 1) * pageBytes) throw damaged(file, 'truncated');
  return true;
}

/** Makes sure that a new environment has room, and its lock file is really there. Throws STORE_FAILED. */
export function makeRoom(file: string): void {
  const lock = lockOf(file);
  try {
    writeFileSync(lock, Buffer.alloc(NEW_BYTES), { mode: 0o600 });
    truncateSync(lock, LOCK_BYTES);
  } catch (cause) {
    rmSync(lock, { force: true });
    throw new MigError('STORE_FAILED', `no room for ${file}`, { cause });
  }
}

export const lockOf = (file: string): string => `${file}-lock`;

/** Makes what was written to a file, or the names of a directory, durable. */
export const sync = (file: string): void => withFile(file, fsyncSync);

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
