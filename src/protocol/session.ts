/** What a session agreed on and how a migration can end: shared by both machines. */
import { CODES, EXIT, type Code } from './codes.ts';
import type { ChannelForm, EncodingName, SuiteName } from './options.ts';

/** What HELLO and HELLO_OK settled. */
export interface Agreed {
  readonly suite: SuiteName;
  readonly form: ChannelForm;
  /** Of pages; `raw` is among them. */
  readonly encodings: readonly EncodingName[];
  readonly channels: number;
  /** Whether a session that breaks in the rounds may be followed by another. */
  readonly resumes: boolean;
  /** Whether pages may be left for the time after the guest has begun to run at the destination. */
  readonly postCopy: boolean;
}

/** Data ports of a session: one a channel, and one to ask for pages on. */
export const portsOf = ({ channels, postCopy }: Agreed): number => channels + (postCopy ? 1 : 0);

/** What may be offered and picked besides (HELLO, HELLO_OK). */
export const RESUME = 'resume';
export const POST_COPY = 'post-copy';

/** Codes of a connection that broke, which tell nothing of either host. */
const BREAKS: ReadonlySet<Code> = new Set([
  'PEER_CLOSED',
  'PEER_SILENT',
  'PEER_UNREACHABLE',
  'CHANNEL_LOST',
  'CHANNEL_JOIN',
]);
export const isBreak = (code: Code): boolean => BREAKS.has(code);

export type Outcome = 'completed' | 'cancelled' | 'failed' | 'refused' | 'in-doubt';

/** The outcome that a code stands for, by its exit status. */
export function outcomeOf(code: Code): Outcome {
  const { exit } = CODES[code];
  if (exit === EXIT.cancelled) return 'cancelled';
  return exit === EXIT.refused ? 'refused' : 'failed';
}
