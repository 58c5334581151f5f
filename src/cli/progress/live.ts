/**
 * A migration on a terminal: a block of lines drawn again at each event. `redrawn` is all it takes
 * from the terminal; what stands in the block is a pure function of the events so far.
 */
import type { MigrationEvent } from '../../migration/report.ts';
import { formatDuration, formatRate, formatSize } from '../quantities.ts';
import { bar, shareOf, type Progress } from './bar.ts';
import { deadlineText } from './lines.ts';

/** What is known so far. */
export interface Shown extends Progress {
  readonly title: string;
  readonly phase: string;
  readonly round: number;
  readonly dirtyRateBps: number;
  readonly bandwidthBps: number;
  readonly predictedDowntimeMs: number;
  readonly etaMs: number;
  readonly throttlePercent: number;
  /** What is to be said of a deadline. */
  readonly warning: string;
}

export const NOTHING_SHOWN: Shown = {
  title: '',
  phase: 'session',
  round: 0,
  sentBytes: 0,
  remainingBytes: 0,
  dirtyRateBps: 0,
  bandwidthBps: 0,
  predictedDowntimeMs: 0,
  etaMs: 0,
  throttlePercent: 0,
  warning: '',
};

export function after(shown: Shown, event: MigrationEvent): Shown {
  switch (event.event) {
    case 'queued':
    case 'started': {
      const phase = event.event === 'queued' ? `queued, place ${event.place}` : 'session';
      return { ...shown, title: `${event.vm}: ${event.from} → ${event.to}`, phase };
    }
    case 'phase':
      return { ...shown, phase: event.phase };
    case 'round':
      return {
        ...shown,
        round: event.n,
        sentBytes: event.bytesSent,
        remainingBytes: 0,
        bandwidthBps: event.bandwidthBps,
        predictedDowntimeMs: event.predictedDowntimeMs,
        etaMs: 0,
      };
    case 'progress': {
      const { event: _, migrationId: __, ...figures } = event;
      return { ...shown, ...figures };
    }
    case 'throttle':
      return { ...shown, throttlePercent: event.percent };
    case 'deadline':
      return { ...shown, warning: event.feasible ? '' : deadlineText(event) };
    case 'result':
      return shown;
  }
}

export function drawn(shown: Shown): readonly string[] {
  return [
    `${shown.title}  ${shown.phase}, round ${shown.round}`,
    `${bar(shareOf(shown))}  ${formatSize(shown.remainingBytes)} remaining, ${formatDuration(shown.etaMs)} left`,
    `bandwidth ${formatRate(shown.bandwidthBps)}  dirty rate ${formatRate(shown.dirtyRateBps)}  predicted downtime ${formatDuration(shown.predictedDowntimeMs)}${shown.throttlePercent === 0 ? '' : `  throttled ${shown.throttlePercent} %`}`,
    ...(shown.warning === '' ? [] : [shown.warning]),
  ];
}

/** Escape sequences (ECMA-48: cursor up, erase below) that put `lines` where `before` stood. */
export const redrawn = (before: number, lines: readonly string[]): string =>
  `${before === 0 ? '' : `\u001B[${before}A`}\r\u001B[J${lines.map((line) => `${line}\n`).join('')}`;
