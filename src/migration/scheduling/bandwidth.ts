/**
 * What all outgoing migrations of a host may send together, divided anew whenever one begins, ends,
 * enters another phase or uses less than it has. It hears what they tell and knows nothing else of them.
 */
import { SHARES_REVIEW_MS } from '../../base/limits.ts';
import type { Clock } from '../../base/ports.ts';
import { MiB } from '../../base/units.ts';
import type { MigrationEvent } from '../report.ts';
import { fairShares } from './shares.ts';

/** Whoever uses less than this of his share is taken at his word, with as much to spare. */
const USED_SHARE = 0.8;
/** What an idle migration keeps, to be seen to want more. */
const IDLE_BPS = MiB;

/** One that shares. */
export interface Sharer {
  /** Above 0. */
  readonly weight: number;
  /** What its own request allows it. */
  readonly maxBps: number | undefined;
  readonly grant: (bps: number) => void;
}

interface Member extends Sharer {
  /** Of the rounds that have arrived. */
  roundsBytes: number;
  sentBytes: number;
  /** When it was looked at last, and what it had sent by then. */
  seenAtMs: number;
  seenBytes: number;
  /** What it uses, as far as that is less than it may. */
  usesBps: number;
  shareBps: number;
  /** The least share that it had since it was looked at. */
  leastBps: number;
}

export class Bandwidth {
  readonly #clock: Pick<Clock, 'now'>;
  readonly #capBps: number | undefined;
  readonly #members = new Map<string, Member>();

  /** `capBps`: of all together; undefined: there is nothing to divide. */
  constructor(clock: Pick<Clock, 'now'>, capBps: number | undefined) {
    this.#clock = clock;
    this.#capBps = capBps;
  }

  join(id: string, sharer: Sharer): void {
    this.#members.set(id, {
      ...sharer,
      roundsBytes: 0,
      sentBytes: 0,
      seenAtMs: this.#clock.now(),
      seenBytes: 0,
      usesBps: Number.POSITIVE_INFINITY,
      shareBps: 0,
      leastBps: Number.POSITIVE_INFINITY,
    });
    this.#divide();
  }

  leave(id: string): void {
    if (this.#members.delete(id)) this.#divide();
  }

  hear(id: string, event: MigrationEvent): void {
    const member = this.#members.get(id);
    if (member === undefined) return;
    if (event.event === 'round') {
      member.roundsBytes += event.bytesSent;
      member.sentBytes = member.roundsBytes;
    }
    if (event.event === 'progress') {
      member.sentBytes = member.roundsBytes + event.sentBytes;
      this.#review(member);
    }
    // What it needs from now on is not known: the guest may be about to stand still for it.
    if (event.event === 'phase') {
      this.#look(member, Number.POSITIVE_INFINITY);
      this.#divide();
    }
  }

  /** Sees who uses less than he has: whoever tells of himself after a while, and whoever is silent for long. */
  #review(telling: Member): void {
    const now = this.#clock.now();
    const due = [...this.#members.values()].filter(
      (member) =>
        now - member.seenAtMs >= (member === telling ? SHARES_REVIEW_MS : 2 * SHARES_REVIEW_MS),
    );
    for (const member of due) {
      const { sentBytes, seenBytes, seenAtMs, leastBps } = member;
      const usedBps = ((sentBytes - seenBytes) * 1000) / (now - seenAtMs);
      const isModest = usedBps < leastBps * USED_SHARE;
      this.#look(member, isModest ? Math.max(usedBps / USED_SHARE, IDLE_BPS) : Infinity);
    }
    if (due.length > 0) this.#divide();
  }

  #look(member: Member, usesBps: number): void {
    member.seenAtMs = this.#clock.now();
    member.seenBytes = member.sentBytes;
    member.usesBps = usesBps;
    member.leastBps = member.shareBps;
  }

  #divide(): void {
    if (this.#capBps === undefined) return;
    const claims = [...this.#members].map(([id, { weight, maxBps = Infinity, usesBps }]) => ({
      id,
      weight,
      maxBps: Math.min(maxBps, usesBps),
    }));
    const shares = fairShares(this.#capBps, claims);
    const changed = [...this.#members]
      .map(([id, member]) => ({ member, bps: shares.get(id) ?? 0 }))
      .filter(({ member, bps }) => bps !== member.shareBps)
      // Who gives comes before who gets: their sum never passes the cap.
      .toSorted((a, b) => a.bps - a.member.shareBps - (b.bps - b.member.shareBps));
    for (const { member, bps } of changed) {
      member.shareBps = bps;
      member.leastBps = Math.min(member.leastBps, bps);
      member.grant(bps);
    }
  }
}
