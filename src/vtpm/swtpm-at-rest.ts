/**
 * The folder in which a swtpm keeps its state, encrypted by a key of this host's that lies beside it.
 * Destroying it takes the key first: what a disk may keep of the state all the same is of no use then.
 */
import { mkdirSync, readdirSync } from 'node:fs';
import { rmdir, unlink } from 'node:fs/promises';
import path from 'node:path';
import type { Random } from '../base/ports.ts';
import {
  overwrite,
  PRIVATE_DIRECTORY_MODE,
  settleDirectory,
  syncDirectory,
  systemCode,
  writeSynced,
} from './durable-file.ts';

/** In the folder; swtpm reads it. */
export const SWTPM_KEY = 'key';
/** AES-256. */
const KEY_BYTES = 32;

/** Makes the folder, 0700, with a new key in it. */
export function makeSwtpmFolder(folder: string, random: Random): void {
  mkdirSync(folder, { mode: PRIVATE_DIRECTORY_MODE });
  const key = random.bytes(KEY_BYTES);
  try {
    writeSynced(path.join(folder, SWTPM_KEY), key, 'new');
    syncDirectory(folder);
  } finally {
    key.fill(0);
  }
}

/** Overwrites and unlinks all that is in the folder, the key first, and the folder. Idempotent. */
export async function destroySwtpm(folder: string, random: Random): Promise<void> {
  const names = namesIn(folder);
  if (names === undefined) return;
  const keyFirst = [SWTPM_KEY, ...names.filter((name) => name !== SWTPM_KEY)];
  for (const name of keyFirst) await overwrite(path.join(folder, name), random);
  for (const name of names) await unlink(path.join(folder, name));
  await settleDirectory(folder);
  await rmdir(folder);
}

function namesIn(folder: string): readonly string[] | undefined {
  try {
    return readdirSync(folder);
  } catch (thrown) {
    if (systemCode(thrown) === 'ENOENT') return undefined;
    throw thrown;
  }
}
