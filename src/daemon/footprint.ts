/** Keeps the daemon's own memory small. It changes nothing of what the daemon does. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { giveBackFreed } from '../native/allocator.ts';

/** To be called when its code is loaded: that leaves more behind than all that comes after. */
export function keepSmall(): void {
  giveBackFreed();
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options: object) => void;
  collect({ type: 'major', flavor: 'last-resort' });
  // What steers, and never holds guest bytes, has few new objects at a time. By default the space for
  // them grows to 64 MiB and more with each burst, and stays so.
  setFlagsFromString('--semi-space-growth-factor=1');
}
