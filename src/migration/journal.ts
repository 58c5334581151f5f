/**
 * What is written at each turn of a migration: pure functions from what is on record, and what
 * happened, to one change of the store. The daemon and the simulation write by the same ones. Each
 * begins from the record as it is, so that nobody writes an old copy over a newer one.
 */
import { assert } from '../base/assert.ts';
import type { Fencing, Matter } from '../protocol/handover/matter.ts';
import type { Deletion } from '../protocol/messages.ts';
import type { Subject } from '../protocol/statement.ts';
import type { Change, MigrationRecord, VmRecord } from '../store/records.ts';

/** A VM's record and that of the migration which changes it. */
export interface Entry {
  readonly vm: VmRecord;
  readonly migration: MigrationRecord;
}

type Handover = Omit<Matter, 'signedByPeer'>;

/** What a session picked, by name. */
interface Session {
  readonly suite: string;
  readonly form: string;
  readonly channels: number;
}

/**
 * A turn is taken from the state before it, by the migration that led to that, or once more: a write
 * that failed may have been made. Whoever comes later has another VM's record before him.
 */
function turnsFrom({ vm, migration }: Entry, ...states: readonly VmRecord['state'][]): void {
  assert(
    vm.migrationId === migration.migrationId && states.includes(vm.state),
    `${vm.name} is ${vm.state} by ${vm.migrationId}`,
  );
}

const handover = ({
  subject: { vmId, epoch },
  transcriptDigest,
  leavesPages,
  final,
}: Handover) => ({
  vmId,
  epoch,
  transcriptDigest,
  ...(leavesPages ? { leavesPages } : {}),
  ...(final === undefined ? {} : { final }),
});

/** The subject of a migration whose handover has begun. */
export function subjectOf(migration: MigrationRecord): Subject | undefined {
  const { migrationId, from, to } = migration;
  if (migration.handover === undefined) return undefined;
  const { vmId, epoch } = migration.handover;
  return { migrationId, vmId, epoch, from, to };
}

/** What an operator was told already, corrected by what became of it since. */
const retold = (
  { result }: MigrationRecord,
  correction: { readonly outcome: string; readonly code: string | null; readonly detail: string },
): Pick<MigrationRecord, 'result'> =>
  typeof result === 'object' && result !== null ? { result: { ...result, ...correction } } : {};

/** S: this epoch never runs here again unless the destination proves that it never will. */
export const surrendered = (
  { vm, migration }: Entry,
  about: Handover,
  said: {
    readonly receipt: Uint8Array;
    readonly token: Uint8Array;
    /** What its session had picked; one that serves pages later picks the same. */
    readonly session?: Session | undefined;
  },
): Change => {
  const { session, ...words } = said;
  const kept =
    session === undefined || !about.leavesPages
      ? {}
      : { session: { suite: session.suite, form: session.form, channels: session.channels } };
  return {
    vm: { ...vm, state: 'surrendered', migrationId: migration.migrationId },
    migration: {
      ...migration,
      state: 'surrendered',
      handover: { ...handover(about), ...kept },
      ...words,
    },
  };
};

/** S: the destination said that it runs there; what is about to be destroyed here. */
export const deleting = (
  migration: MigrationRecord,
  activation: Uint8Array,
  destroying: Deletion,
): Change => ({ migration: { ...migration, activation, destroying } });

/** S: it runs elsewhere; nothing of it is left here. */
export const gone = (
  { vm, migration }: Entry,
  proof: {
    readonly activation: Uint8Array;
    readonly facts: Deletion;
    readonly statement: Uint8Array;
    readonly signature: Uint8Array;
  },
): Change => {
  turnsFrom({ vm, migration }, 'surrendered', 'gone');
  const { activation, ...deletion } = proof;
  const { destroying: _, ...begun } = migration;
  return {
    vm: { ...vm, state: 'gone', migrationId: migration.migrationId, movedTo: migration.to },
    migration: {
      ...begun,
      ...retold(migration, { outcome: 'completed', code: null, detail: '' }),
      state: 'gone',
      code: null,
      detail: '',
      activation,
      deletion,
    },
  };
};

/** S: the VM is ours again, with an epoch that was promised to nobody. */
export const reclaimed = (
  { vm, migration }: Entry,
  epoch: number,
  reason: { readonly code: string; readonly detail: string; readonly fencing: Fencing | null },
): Change => {
  turnsFrom({ vm, migration }, 'surrendered', 'active');
  const { code, detail, fencing } = reason;
  return {
    vm: { ...vm, state: 'active', epoch, migrationId: migration.migrationId },
    migration: {
      ...migration,
      ...retold(migration, { outcome: 'failed', code, detail }),
      state: 'aborted',
      code,
      detail,
      ...(fencing === null ? {} : { fencing }),
    },
  };
};

/** D: everything is here, but only the source's token makes it ours. */
export const prepared = (
  migration: MigrationRecord,
  descriptor: VmRecord['descriptor'],
  about: Handover,
  receipt: Uint8Array,
): Change => ({
  vm: {
    name: descriptor.name,
    vmId: about.subject.vmId,
    epoch: about.subject.epoch + 1,
    state: 'prepared',
    descriptor,
    migrationId: migration.migrationId,
    movedTo: null,
  },
  migration: { ...migration, state: 'prepared', handover: handover(about), receipt },
});

/** D: it is ours, by the source's token or by an operator's statement. */
export const active = (
  { vm, migration }: Entry,
  right: { readonly token: Uint8Array } | { readonly fencing: Fencing },
): Change => {
  turnsFrom({ vm, migration }, 'prepared', 'active');
  return {
    vm: { ...vm, state: 'active' },
    migration: { ...migration, state: 'active', code: null, detail: '', ...right },
  };
};

/** D: the source's certificate of what it destroyed. */
export const certified = (
  migration: MigrationRecord,
  deletion: NonNullable<MigrationRecord['deletion']>,
): Change => ({ migration: { ...migration, deletion } });

/** D: an operator stated that the source, which has not said that it destroyed its own, was fenced. */
export const sourceFenced = (migration: MigrationRecord, fencing: Fencing): Change => ({
  migration: { ...migration, fencing },
});

/** D: the source runs it as well, as it says; only an operator can end that. */
export const contradicted = (migration: MigrationRecord): Change => ({
  migration: { ...migration, code: 'TWO_LIVES' },
});

/** D: nothing of it is here any more, and by this migration nothing ever will be. */
export const discarded = ({ vm, migration }: Entry, code: string, detail: string): Change => {
  turnsFrom({ vm, migration }, 'prepared', 'active');
  return { removeVm: vm.name, migration: { ...migration, state: 'aborted', code, detail } };
};

/** Either, before the handover: given up; what the VM's record says stays. */
export const aborted = (migration: MigrationRecord, code: string, detail: string): Change => ({
  migration: { ...migration, state: 'aborted', code, detail },
});
