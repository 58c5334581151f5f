/** What a session agreed on and how a migration can end: shared by both machines. */
import { CODES, EXIT, type Code } from './codes.ts';
import type { SuiteName } from './options.ts';

/** What HELLO and HELLO_OK settled. */
export interface Agreed {
  readonly suite: SuiteName;
  readonly channels: number;
}

export type Outcome = 'completed' | 'cancelled' | 'failed' | 'refused' | 'in-doubt';

/** The outcome that a code stands for, by its exit status. */
export function outcomeOf(code: Code): Outcome {
  const { exit } = CODES[code];
  if (exit === EXIT.cancelled) return 'cancelled';
  return exit === EXIT.refused ? 'refused' : 'failed';
}
