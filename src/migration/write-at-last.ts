/** Writes that must come to be: a disk that is full now may have room later. */
import type { Clock, Random } from '../base/ports.ts';
import type { Change, RecordStore } from '../store/records.ts';
import { BackOff } from './back-off.ts';

interface Ports {
  readonly store: RecordStore;
  readonly clock: Clock;
  readonly random: Random;
}

/** Resolves when `change`, as it then is, is on disk; tries again for as long as the daemon lives. */
export async function writeAtLast(ports: Ports, change: () => Change): Promise<void> {
  let due = Promise.withResolvers<void>();
  const backOff = new BackOff(ports, () => due.resolve());
  for (;;) {
    try {
      await ports.store.write(change());
      return;
    } catch {
      due = Promise.withResolvers();
      backOff.wait();
      await due.promise;
    }
  }
}
