/** A migration as plain lines, for pipes and logs: phases, rounds, and how far a long round is. */
import type { MigrationEvent } from '../../migration/report.ts';
import { formatDuration, formatRate, formatSize } from '../quantities.ts';
import { bar, shareOf } from './bar.ts';

/** A round is told of at most this often: a log must not grow with the length of a migration. */
const STEPS_A_ROUND = 4;

export class Lines {
  #round = -1;
  #step = 0;

  /** Nothing when the event adds nothing to what was said. */
  of(event: MigrationEvent): string | undefined {
    switch (event.event) {
      case 'queued':
        return [
          `${event.migrationId}: ${event.vm} waits for its turn, place ${event.place}`,
          ...(event.code === null ? [] : [`${event.code} (${event.detail})`]),
        ].join(': ');
      case 'started':
        return `${event.migrationId}: ${event.vm} from ${event.from} to ${event.to}`;
      case 'phase':
        return `phase ${event.phase}`;
      case 'round':
        return [
          `round ${event.n}: ${event.pages} pages (${event.zeroPages} zero)`,
          `in ${formatDuration(event.durationMs)} at ${formatRate(event.bandwidthBps)}`,
          event.isWhole
            ? `${event.dirtyPagesAfter} dirty after${deferred(event.deferredPages)}, predicted downtime ${formatDuration(event.predictedDowntimeMs)}`
            : 'then the connection broke',
        ].join(', ');
      case 'throttle':
        return event.percent === 0
          ? 'the guest runs unthrottled again'
          : `the guest is throttled by ${event.percent} %`;
      case 'deadline':
        return deadlineText(event);
      case 'progress':
        return this.#progress(event);
      case 'result':
        return undefined;
    }
  }

  #progress(event: Extract<MigrationEvent, { event: 'progress' }>): string | undefined {
    const share = shareOf(event);
    const step = Math.floor(share * STEPS_A_ROUND);
    if (event.round === this.#round && step <= this.#step) return undefined;
    this.#round = event.round;
    this.#step = step;
    return `  ${bar(share)}, ${formatSize(event.remainingBytes)} remaining, ${formatDuration(event.etaMs)} left`;
  }
}

const deferred = (pages: number): string => (pages === 0 ? '' : ` (${pages} left for last)`);

/** Whether a deadline can be held, for people. */
export function deadlineText({
  feasible,
  askedMs,
  predictedMs,
}: Extract<MigrationEvent, { event: 'deadline' }>): string {
  const asked = `the deadline of ${formatDuration(askedMs)}`;
  if (feasible) return `${asked} can be held again`;
  const instead =
    predictedMs === null ? 'no end in sight' : `${formatDuration(predictedMs)} at best`;
  return `${asked} cannot be held: ${instead}`;
}
