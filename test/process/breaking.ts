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

/** So many bytes are half of round 0, or the start of round 1; other traffic is little. */
export const IN_ROUND = [MEMORY_BYTES / 2, MEMORY_BYTES + MiB] as const;

/**
 * Acts once, when so many more bytes have passed on the data channels: before the destination can have
 * what follows, and so at that point of a migration however slow a test is to hear of it.
 */
export function afterBytes({ data }: Wire, bytes: number, act: () => void): void {
  let left = bytes;
  const count = (passing: Buffer): Buffer => {
    left -= passing.length;
    if (left > 0) return passing;
    for (const relay of data) relay.rules = {};
    act();
    return passing;
  };
  for (const relay of data) relay.rules = { pass: count };
}

export const inPhase = (phase: string) => (event: MigrationEvent) =>
  event.event === 'phase' && event.phase === phase;

/** Every connection between the two hosts. */
export function cutAll({ relays }: Wire): void {
  for (const relay of relays) relay.cut();
}
