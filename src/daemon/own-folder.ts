/** Folders of which nobody else may change a name. */
import { lstatSync, mkdirSync, readdirSync, rmdirSync, statfsSync, statSync } from 'node:fs';
import { MigError } from '../protocol/error.ts';

/**
 * Makes the folder, 0700, unless it is there. One that is there must be this user's and writable by
 * nobody else: in `/dev/shm` and `/tmp` anyone may have made it first, and would swap what we put into
 * it, a guest's memory among it, for files of his own. Throws CONFIG_INVALID, STORE_FAILED.
 */
export function makeOwnFolder(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new MigError('STORE_FAILED', directory, { cause });
  }
  const { uid, mode } = statSync(directory);
  const own = process.getuid?.();
  // A link of ours is as good as the folder it leads to.
  if (uid !== own || lstatSync(directory).uid !== own || (mode & 0o022) !== 0) {
    throw new MigError('CONFIG_INVALID', `${directory} is not ours alone: chown it, chmod 700 it`);
  }
}

/** TMPFS_MAGIC of linux/magic.h. */
const TMPFS = 0x01021994;

/**
 * The folder for guests' memory: as {@link makeOwnFolder}, and on tmpfs. Elsewhere the memory of a
 * guest would be written to a disk in clear, and stay there. Throws CONFIG_INVALID, STORE_FAILED.
 */
export function makeMemoryFolder(directory: string): void {
  makeOwnFolder(directory);
  if (statfsSync(directory).type === TMPFS) return;
  if (readdirSync(directory).length === 0) rmdirSync(directory);
  throw new MigError('CONFIG_INVALID', `memoryDir: ${directory} is not on tmpfs`);
}
