/**
 * Where a session begins that follows a broken one. A channel's records arrive in order and count one
 * by one, so what the destination holds of a round is a prefix of each channel's pages. It says how
 * long each prefix is; the source, which knows the order it sent in, says which pages that leaves.
 */
import { MigError } from './error.ts';

export interface ResumePoint {
  readonly round: number;
  /** Pages of that round that count, a channel of the broken session each. */
  readonly accepted: readonly number[];
}

/** What the source had sent when the session broke. */
export interface Sent {
  readonly round: number;
  /** Of that round, a channel each. */
  readonly pages: readonly number[];
  /** Whether that is all of the round. */
  readonly isWhole: boolean;
}

/** What of the round that broke has arrived. */
export type Arrived = 'nothing' | 'part' | 'whole';

/**
 * What the destination's word says of what was `sent`; `origin` is where the broken session began. A
 * session of which nothing arrived changes nothing: the destination then says its origin again,
 * whether or not the source had heard it. Throws TRANSCRIPT_MISMATCH at a word that cannot be true.
 */
export function arrivedOf(point: ResumePoint, sent: Sent, origin: ResumePoint | null): Arrived {
  if (origin !== null && samePoint(point, origin) && sent.round === origin.round + 1) {
    return 'nothing';
  }
  const { round, accepted } = point;
  if (accepted.length === sent.pages.length) {
    if (round === sent.round && accepted.every((pages, at) => pages <= (sent.pages[at] ?? 0))) {
      return 'part';
    }
    // The word that the round was complete was lost, not the round.
    if (round === sent.round + 1 && sent.isWhole && accepted.every((pages) => pages === 0)) {
      return 'whole';
    }
  }
  throw new MigError('TRANSCRIPT_MISMATCH', `round ${round} was not sent as far as is held`);
}

const samePoint = (a: ResumePoint, b: ResumePoint): boolean =>
  a.round === b.round && String(a.accepted) === String(b.accepted);
