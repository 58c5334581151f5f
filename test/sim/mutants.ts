/**
 * Planted bugs of the family that the handover is about, each a build that differs from the real one
 * in one point. The simulation must find every one.
 */
import type { Arrival } from '../../src/migration/handover/arrival.ts';
import type { DestinationState } from '../../src/protocol/handover/destination.ts';
import { beginSourceHandover, reclaimedEpoch } from '../../src/protocol/handover/source.ts';
import { sayAborted } from '../../src/protocol/handover/matter.ts';
import { BUILD, type Build } from './build.ts';

type SourceStep = Build['stepSourceHandover'];
type DestinationStep = Build['stepDestinationHandover'];

/** The source's handover, with another answer to some pairs of state and event. */
const source = (
  answer: (...input: Parameters<SourceStep>) => ReturnType<SourceStep> | undefined,
): Build => ({
  ...BUILD,
  stepSourceHandover: (state, event) =>
    answer(state, event) ?? BUILD.stepSourceHandover(state, event),
});

/** The destination's. */
const destination = (
  answer: (...input: Parameters<DestinationStep>) => ReturnType<DestinationStep> | undefined,
): Build => ({
  ...BUILD,
  stepDestinationHandover: (state, event) =>
    answer(state, event) ?? BUILD.stepDestinationHandover(state, event),
});

const reclaim = ({ matter }: Parameters<SourceStep>[0]): ReturnType<SourceStep> => {
  const reason = { code: 'STATE_LOST', detail: '', fencing: null } as const;
  const epoch = reclaimedEpoch(matter.subject.epoch);
  return {
    state: { kind: 'Reclaiming', matter, reason },
    effects: [{ kind: 'disarm' }, { kind: 'reclaim', epoch, reason }],
  };
};

const discard = ({ matter }: DestinationState): ReturnType<DestinationStep> => ({
  state: { kind: 'Discarding', matter, code: 'PEER_SILENT' },
  effects: [{ kind: 'disarm' }, { kind: 'discard', code: 'PEER_SILENT' }],
});

const activate = ({ matter }: DestinationState): ReturnType<DestinationStep> => {
  const right = { kind: 'token', token: new Uint8Array(1) } as const;
  return {
    state: { kind: 'Activating', matter, right },
    effects: [{ kind: 'disarm' }, { kind: 'recordActive', right }],
  };
};

/** Lets a VM go on that has not arrived. */
const arrivedWhen =
  (mistaken: Arrival): Build['arrivalOf'] =>
  (record, state) => {
    const arrival = BUILD.arrivalOf(record, state);
    return arrival === mistaken ? 'arrived' : arrival;
  };

/** Not synced, a change that puts a VM into this state. */
const unsynced = (state: string): Build => ({
  ...BUILD,
  isSynced: ({ vm }) => vm?.state !== state,
});

export const MUTANTS: Readonly<Record<string, Build>> = {
  'D acknowledges before PREPARED is synced': unsynced('prepared'),
  'S says the token before SURRENDERED is synced': unsynced('surrendered'),
  'D says ACTIVATED before ACTIVE is synced': unsynced('active'),
  'S resumes when ACTIVATED is lost': source((state, { kind }) =>
    state.kind === 'AwaitingActivated' && kind === 'deadlinePassed' ? reclaim(state) : undefined,
  ),
  'S deletes before ACTIVATED': source((state, event) =>
    state.kind === 'AwaitingActivated' && event.kind === 'DONE'
      ? {
          state: { kind: 'Deleting', matter: state.matter, activation: event.message.signature },
          effects: [
            { kind: 'disarm' },
            { kind: 'deleteGuest', activation: event.message.signature },
          ],
        }
      : undefined,
  ),
  'S deletes when pages are still owed': source((state, event) =>
    (state.kind === 'AwaitingActivated' || state.kind === 'InDoubt') && event.kind === 'RUNNING'
      ? {
          state: { kind: 'Deleting', matter: state.matter, activation: event.message.signature },
          effects: [
            { kind: 'disarm' },
            { kind: 'deleteGuest', activation: event.message.signature },
          ],
        }
      : undefined,
  ),
  'S takes back what runs at D while it serves': source((state, { kind }) =>
    state.kind === 'Serving' && kind === 'parted' ? reclaim(state) : undefined,
  ),
  'D says that it is whole before it is': {
    ...BUILD,
    stepDestinationHandover: (state, event) =>
      BUILD.stepDestinationHandover(
        state.kind === 'Starting'
          ? { ...state, matter: { ...state.matter, leavesPages: false } }
          : state,
        event,
      ),
  },
  'S takes UNKNOWN for ABORT': source((state, { kind }) =>
    state.kind === 'AwaitingActivated' && kind === 'UNKNOWN' ? reclaim(state) : undefined,
  ),
  'S reclaims with the epoch that it promised': {
    ...BUILD,
    journal: {
      ...BUILD.journal,
      reclaimed: (entry, epoch, reason) => BUILD.journal.reclaimed(entry, epoch - 1, reason),
    },
  },
  'S lets a reclaimed guest run before that is on record': {
    ...BUILD,
    recordsBeforeReclaiming: false,
  },
  'S takes an uncertain surrender for none': { ...BUILD, insistsOnSurrender: false },
  'S begins with a token that no record holds': {
    ...BUILD,
    stepSource: (state, event) =>
      BUILD.stepSource(
        state,
        state.kind === 'Surrendering' && event.kind === 'surrenderFailed'
          ? { kind: 'surrendered' }
          : event,
      ),
  },
  'D runs the epoch that ran at S': {
    ...BUILD,
    journal: {
      ...BUILD.journal,
      prepared: (migration, descriptor, about, receipt) => {
        const change = BUILD.journal.prepared(migration, descriptor, about, receipt);
        const { vm } = change;
        return vm === undefined ? change : { ...change, vm: { ...vm, epoch: vm.epoch - 1 } };
      },
    },
  },
  'D activates on a timer': destination((state, { kind }) =>
    state.kind === 'AwaitingSurrender' && kind === 'deadlinePassed' ? activate(state) : undefined,
  ),
  'D aborts PREPARED on a timer': destination((state, { kind }) =>
    state.kind === 'AwaitingSurrender' && kind === 'deadlinePassed' ? discard(state) : undefined,
  ),
  'D says ABORT before that is on record': destination((state, event) => {
    const step = BUILD.stepDestinationHandover(state, event);
    if (step.state.kind !== 'Discarding' || state.kind === 'Discarding') return undefined;
    const { matter, code } = step.state;
    const word = sayAborted(matter.subject.migrationId, 'destination', code);
    return { ...step, effects: [word, ...step.effects] };
  }),
  'D discards what may have run': destination((state, { kind }) =>
    state.kind === 'Starting' && kind === 'lost' ? discard(state) : undefined,
  ),
  'D takes UNKNOWN for ABORT': destination((state, { kind }) =>
    state.kind === 'AwaitingSurrender' && kind === 'UNKNOWN' ? discard(state) : undefined,
  ),
  'D says ACTIVATED before its guest is recorded as its own': destination((state, event) => {
    if (state.kind !== 'AwaitingSurrender' || event.kind !== 'SURRENDER') return undefined;
    const { matter } = state;
    return { state: { kind: 'Starting', matter }, effects: [{ kind: 'startGuest' }] };
  }),
  'D believes its own transcript': {
    ...BUILD,
    stepDestination: (state, event) =>
      BUILD.stepDestination(
        state,
        state.kind === 'ConfirmingFinal' && event.kind === 'finalReceived'
          ? { ...event, transcriptDigest: state.final.transcriptDigest }
          : event,
      ),
  },
  'recovery resumes what was surrendered': {
    ...BUILD,
    dutiesOf: (vms, migrations, stands) => [
      ...BUILD.dutiesOf(vms, migrations, stands),
      ...vms
        .filter((vm) => vm.state === 'surrendered' && stands(vm))
        .map((vm) => ({ kind: 'resume', vm }) as const),
    ],
  },
  'recovery forgets who is only prepared': {
    ...BUILD,
    dutiesOf: (vms, migrations, stands) =>
      BUILD.dutiesOf(vms, migrations, stands).filter(
        (duty) => duty.kind !== 'handOver' || duty.migration.state !== 'prepared',
      ),
  },
  'a claim gives back what another holds by now': {
    ...BUILD,
    claimsAreOwned: false,
    arrivalOf: arrivedWhen('owed'),
  },
  'a VM goes on before it is whole': { ...BUILD, arrivalOf: arrivedWhen('coming') },
  'S destroys before what there was is on record': {
    ...BUILD,
    journal: { ...BUILD.journal, deleting: (migration) => ({ migration }) },
  },
  'a recovered source does not ask': {
    ...BUILD,
    beginSourceHandover: (matter, link) => {
      const step = beginSourceHandover(matter, link);
      return link === 'linked' ? step : { ...step, effects: [] };
    },
  },
};
