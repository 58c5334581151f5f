/**
 * What a daemon owes when it starts, by its durable records alone: pure, so that the simulation
 * recovers by the same rules. To be done in the order given: no guest waits for a disk.
 */
import type { MigrationRecord, VmRecord } from '../store/records.ts';

export type Duty =
  /** It had not surrendered and now never will. */
  | { readonly kind: 'abort'; readonly migration: MigrationRecord }
  /** Ours to run, and a migration left it standing. */
  | { readonly kind: 'resume'; readonly vm: VmRecord }
  /** Its handover goes on from the record. */
  | { readonly kind: 'handOver'; readonly migration: MigrationRecord };

export type MigrationDuty = Exclude<Duty, { readonly kind: 'resume' }>;

/** Whether the other host's word is still owed to a migration. */
export const isUnsettled = ({ state, direction, handover, deletion }: MigrationRecord): boolean =>
  state === 'surrendered' ||
  state === 'prepared' ||
  // Without what it is about (records of version 1) nobody can be asked.
  (direction === 'incoming' &&
    state === 'active' &&
    handover !== undefined &&
    deletion === undefined);

/** Whether pages of its VM may still have to come. */
export const isPulling = ({ state, direction, handover, deletion }: MigrationRecord): boolean =>
  direction === 'incoming' &&
  state === 'active' &&
  handover?.leavesPages === true &&
  deletion === undefined;

/**
 * `stands`: whether a VM's guest lives and stands still because of a migration (held, or come here
 * and never run), not because its operator paused it.
 */
export function dutiesOf(
  vms: readonly VmRecord[],
  migrations: readonly MigrationRecord[],
  stands: (vm: VmRecord) => boolean,
): Duty[] {
  // It goes on when its pages come: a vCPU that waits for one answers nobody.
  const isPulled = ({ migrationId }: VmRecord) =>
    migrations.some((each) => each.migrationId === migrationId && isPulling(each));
  return [
    ...vms
      .filter((vm) => vm.state === 'active' && stands(vm) && !isPulled(vm))
      .map((vm): Duty => ({ kind: 'resume', vm })),
    ...migrations
      .filter(({ state }) => state === 'started')
      .map((migration): Duty => ({ kind: 'abort', migration })),
    ...migrations.filter(isUnsettled).map((migration): Duty => ({ kind: 'handOver', migration })),
  ];
}
