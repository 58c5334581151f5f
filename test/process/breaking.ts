/** Connections that break at a certain point of a migration, and guests for which it matters. */
import { MiB } from '../../src/base/units.ts';
import type { MigrationEvent } from '../../src/migration/report.ts';
import type { Wire } from '../attack/wire.ts';

const MEMORY_BYTES = 16 * MiB;
/** A round of all pages takes a second. */
export const PACE = { maxBandwidthBps: 16 * MiB, verify: true };
export const config = { limits: { reconnectMs: 20_000, peerSilenceMs: 2_000 } };
/** Writes to the end of the pre-copy, in pages that are sent early and late. */
export const WRITING = {
  memoryBytes: MEMORY_BYTES,
  fill: 1,
  workload: { kind: 'writer', rateBps: 4e6, workingSetBytes: MEMORY_BYTES },
};

/** What is to happen once, at the first event that `isIt` says yes to. */
export const once = (isIt: (event: MigrationEvent) => boolean, act: () => void) => {
  let isDone = false;
  return (event: MigrationEvent) => {
    if (isDone || !isIt(event)) return;
    isDone = true;
    act();
  };
};

/** Half of a round has left. */
export const halfOf = (round: number) => (event: MigrationEvent) =>
  event.event === 'progress' && event.round === round && event.sentBytes >= event.remainingBytes;

export const inPhase = (phase: string) => (event: MigrationEvent) =>
  event.event === 'phase' && event.phase === phase;

/** Every connection between the two hosts. */
export function cutAll({ relays }: Wire): void {
  for (const relay of relays) relay.cut();
}
