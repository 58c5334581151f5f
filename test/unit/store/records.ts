/** Records as a daemon writes them, and folders to write them in. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { MigrationRecord, VmRecord } from '../../../src/store/records.ts';
import { descriptor } from '../protocol/samples.ts';

const VM_ID = descriptor().vmId;

export const vmRecord = (more: Partial<VmRecord> = {}): VmRecord => ({
  name: 'vm1',
  vmId: VM_ID,
  epoch: 1,
  state: 'active',
  descriptor: descriptor(),
  migrationId: null,
  movedTo: null,
  ...more,
});

/** Of the `n`-th migration. */
export const migrationRecord = (
  n: number,
  more: Partial<MigrationRecord> = {},
): MigrationRecord => ({
  migrationId: `019a0000-0000-7000-8000-${String(n).padStart(12, '0')}`,
  direction: 'outgoing',
  vm: 'vm1',
  from: 'host-a',
  to: 'host-b',
  startedAtMs: n,
  state: 'started',
  code: null,
  detail: '',
  ...more,
});

export interface Scratch extends Disposable {
  readonly dir: string;
  /** Where the store keeps its records. */
  readonly file: string;
}

export function scratch(): Scratch {
  const dir = mkdtempSync(path.join(tmpdir(), 'store-'));
  return {
    dir,
    file: path.join(dir, 'records.lmdb'),
    [Symbol.dispose]: () => rmSync(dir, { recursive: true }),
  };
}
