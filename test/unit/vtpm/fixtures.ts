/** A clock that the test moves, randomness as the system gives it, and the refusal to expect. */
import { randomBytes } from 'node:crypto';
import type { Clock, Random } from '../../../src/base/ports.ts';
import { MigError } from '../../../src/protocol/error.ts';
import type { VtpmReply } from '../../../src/vtpm/command.ts';

export class StillClock implements Clock {
  nowMs = 5_000.25;

  now(): number {
    return this.nowMs;
  }

  wall(): number {
    return this.nowMs;
  }

  after(): never {
    throw new Error('the vTPM sets no timer');
  }
}

export const systemRandom: Random = { bytes: (count) => new Uint8Array(randomBytes(count)) };

/** What `work` threw, which must be VTPM_FAILED. */
export function refusalOf(work: () => unknown): string {
  try {
    work();
  } catch (thrown) {
    if (thrown instanceof MigError && thrown.code === 'VTPM_FAILED') return thrown.detail;
    throw thrown;
  }
  throw new Error('nothing was refused');
}

/** What `work` rejected with, which must be VTPM_FAILED. */
export async function rejectionOf(work: Promise<unknown>): Promise<string> {
  const [settled] = await Promise.allSettled([work]);
  if (settled.status === 'fulfilled') throw new Error('nothing was refused');
  return refusalOf(() => {
    throw settled.reason;
  });
}

/** The reply, which must be of the type named. */
export function expectReply<T extends VtpmReply['type']>(
  type: T,
  reply: VtpmReply,
): Extract<VtpmReply, { readonly type: T }> {
  if (reply.type !== type) throw new Error(`${type} expected, not ${JSON.stringify(reply)}`);
  return reply as Extract<VtpmReply, { readonly type: T }>;
}
