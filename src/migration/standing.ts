/**
 * Where the transfer of a migration stands between two of its sessions, as both hosts know it: the
 * point that the next one begins from, and the lineage of all such points so far.
 */
import { createHash } from 'node:crypto';
import type { ResumePoint } from '../protocol/resume-point.ts';
import { lineageStatement } from '../protocol/statement.ts';
import type { Origin } from './data-plane/messages.ts';

export interface Standing {
  readonly point: ResumePoint;
  /** SHA-384 over this point and the lineage before it. */
  readonly lineage: Uint8Array;
}

const NONE = new Uint8Array(0);

/** After a session that began at `before`, null when it was the first, and came to `point`. */
export const standingAt = (
  migrationId: string,
  before: Standing | null,
  point: ResumePoint,
): Standing => ({
  point,
  lineage: createHash('sha384')
    .update(lineageStatement(migrationId, before?.lineage ?? NONE, point))
    .digest(),
});

/** Where the next session's data channels begin. */
export const originAt = (standing: Standing | null): Origin | undefined =>
  standing === null ? undefined : { round: standing.point.round + 1, lineage: standing.lineage };
