/** A progress bar: how much of a round is sent. */

const CELLS = 30;

/** 0 to 1; 0 when nothing is known. */
export function shareOf({ sentBytes, remainingBytes }: Progress): number {
  const total = sentBytes + remainingBytes;
  return total === 0 ? 0 : sentBytes / total;
}

export interface Progress {
  readonly sentBytes: number;
  readonly remainingBytes: number;
}

export function bar(share: number): string {
  const cells = Math.round(share * CELLS);
  const percent = String(Math.round(share * 100)).padStart(3);
  return `${'█'.repeat(cells)}${'░'.repeat(CELLS - cells)} ${percent} %`;
}
