/** The code under test, as one value: what the simulation runs, and what a planted bug replaces. */
import { arrivalOf } from '../../src/migration/handover/arrival.ts';
import * as journal from '../../src/migration/journal.ts';
import { dutiesOf } from '../../src/migration/recovery.ts';
import { stepDestination } from '../../src/protocol/destination/machine.ts';
import {
  beginDestinationHandover,
  stepDestinationHandover,
} from '../../src/protocol/handover/destination.ts';
import { beginSourceHandover, stepSourceHandover } from '../../src/protocol/handover/source.ts';
import { stepSource } from '../../src/protocol/source/machine.ts';
import type { Change } from '../../src/store/records.ts';

export interface Build {
  readonly stepSource: typeof stepSource;
  readonly stepDestination: typeof stepDestination;
  readonly stepSourceHandover: typeof stepSourceHandover;
  readonly stepDestinationHandover: typeof stepDestinationHandover;
  readonly beginSourceHandover: typeof beginSourceHandover;
  readonly beginDestinationHandover: typeof beginDestinationHandover;
  readonly journal: typeof journal;
  readonly dutiesOf: typeof dutiesOf;
  readonly arrivalOf: typeof arrivalOf;
  /** Whether a write is answered only when it is synced. */
  readonly isSynced: (change: Change) => boolean;
  /** Whether the source lets a guest run again only when its abort is on record, if it may have surrendered. */
  readonly insistsOnSurrender: boolean;
  /** Whether the source lets a guest that it reclaims run only when that is on record. */
  readonly recordsBeforeReclaiming: boolean;
  /** Whether a claim on the VM's name gives back only itself. */
  readonly claimsAreOwned: boolean;
}

export const BUILD: Build = {
  stepSource,
  stepDestination,
  stepSourceHandover,
  stepDestinationHandover,
  beginSourceHandover,
  beginDestinationHandover,
  journal,
  dutiesOf,
  arrivalOf,
  isSynced: () => true,
  insistsOnSurrender: true,
  recordsBeforeReclaiming: true,
  claimsAreOwned: true,
};
