/**
 * What a destination holds of a migration whose session broke: the reservation with all that came, and
 * where that stands. The next session of the same migration takes it over, or nobody does.
 */
import { isDeepStrictEqual } from 'node:util';
import type { GuestMemory } from '../guest/driver.ts';
import { MigError } from '../protocol/error.ts';
import type { MessageOf } from '../protocol/messages.ts';
import type { Admitted, Asking } from './admission.ts';
import type { Extent } from './data-plane/messages.ts';
import { standingAt, type Standing } from './standing.ts';

export type Offer = MessageOf<'OFFER'>;

export interface HeldTransfer {
  readonly memory: GuestMemory;
  /** Null: nothing has come, and the memory is as fresh as it was. */
  readonly standing: Standing | null;
  /** Whoever calls this owns it, at once. Throws what it was given up for meanwhile. */
  readonly takeOver: (asking: Asking) => Admitted;
}

/** A session that another one of the same migration may take over from. */
export interface Resumable {
  /**
   * Ends the session; resolves with what it leaves. Rejects with TRANSCRIPT_MISMATCH at another
   * `offer` than its own, and when what came is given up.
   */
  hold(offer: Offer): Promise<HeldTransfer>;
}

/** Where a session that began at `before` broke, by what its channels accepted of `round`. */
export function standingAfter(
  migrationId: string,
  before: Standing | null,
  round: number,
  extents: readonly Extent[],
): Standing | null {
  const accepted = extents.map(({ pages }) => pages);
  const firstRound = before === null ? 0 : before.point.round + 1;
  // Of this session nothing counts: whether the source ever heard where it was to begin or not, the
  // next one begins there too.
  const isUnchanged = round === firstRound && accepted.every((pages) => pages === 0);
  return isUnchanged ? before : standingAt(migrationId, before, { round, accepted });
}

/** What was admitted is what is gone on with. Throws TRANSCRIPT_MISMATCH. */
export function checkSameOffer(held: Offer, offered: Offer): void {
  const { descriptor, epoch, verify } = offered;
  const isSame =
    epoch === held.epoch &&
    verify === held.verify &&
    isDeepStrictEqual(descriptor, held.descriptor);
  if (!isSame) throw new MigError('TRANSCRIPT_MISMATCH', 'another offer than the one admitted');
}
