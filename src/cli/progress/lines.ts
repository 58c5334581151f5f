/** A migration as plain lines, for pipes and logs: one for each phase and each round. */
import type { MigrationEvent } from '../../migration/report.ts';
import { formatDuration, formatRate } from '../quantities.ts';

/** Nothing for what is told by other lines already. */
export function lineOf(event: MigrationEvent): string | undefined {
  switch (event.event) {
    case 'started':
      return `${event.migrationId}: ${event.vm} from ${event.from} to ${event.to}`;
    case 'phase':
      return `phase ${event.phase}`;
    case 'round':
      return [
        `round ${event.n}: ${event.pages} pages (${event.zeroPages} zero)`,
        `in ${formatDuration(event.durationMs)} at ${formatRate(event.bandwidthBps)}`,
        `${event.dirtyPagesAfter} dirty after, predicted downtime ${formatDuration(event.predictedDowntimeMs)}`,
      ].join(', ');
    case 'progress':
    case 'result':
      return undefined;
  }
}
