/**
 * What the daemon asks of a guest's agent, over the guest's Unix socket: msgpack maps, each with its
 * length (u32, big-endian) before it. `{id, op, …}` is answered by `{id, result}` or `{id, error:
 * {code, detail}}`. Both ends are ours and the socket lies in a folder 0700; it is checked all the same.
 */
import { Packr } from 'msgpackr';
import { z } from 'zod';
import { workloadSchema } from '../../protocol/descriptor.ts';
import { MigError } from '../../protocol/error.ts';
import { nameSchema } from '../../protocol/options.ts';

/** In the guest's memory folder, beside its RAM. */
export const TRAP_SOCKET = 'trap.sock';

/** Above the largest answer to a vTPM command, and nothing that a daemon could not hold. */
export const AGENT_FRAME_BYTES_MAX = 1024 * 1024;
const LENGTH_BYTES = 4;

const packr = new Packr({ useRecords: false, copyBuffers: true });

export function encodeFrame(value: unknown): Buffer {
  const body = packr.pack(value);
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32BE(body.length);
  return Buffer.concat([length, body]);
}

/**
 * Puts frames together from a stream, however it is split. Throws GUEST_FAILED when one is too long or
 * no msgpack: a stream that did is of no more use.
 */
export class FrameDecoder {
  #pending: Buffer = Buffer.alloc(0);

  push(bytes: Buffer): unknown[] {
    this.#pending = Buffer.concat([this.#pending, bytes]);
    const frames: unknown[] = [];
    while (this.#pending.length >= LENGTH_BYTES) {
      const length = this.#pending.readUInt32BE();
      if (length > AGENT_FRAME_BYTES_MAX)
        throw new MigError('GUEST_FAILED', `frame of ${length} bytes`);
      if (this.#pending.length < LENGTH_BYTES + length) break;
      frames.push(unpack(this.#pending.subarray(LENGTH_BYTES, LENGTH_BYTES + length)));
      this.#pending = this.#pending.subarray(LENGTH_BYTES + length);
    }
    return frames;
  }
}

function unpack(body: Buffer): unknown {
  try {
    return packr.unpack(body);
  } catch (cause) {
    throw new MigError('GUEST_FAILED', 'a frame that is no msgpack', { cause });
  }
}

const op = <N extends string, S extends z.core.$ZodShape>(name: N, shape: S) =>
  z.strictObject({ id: z.number().int(), op: z.literal(name), ...shape });

export const agentRequestSchema = z.discriminatedUnion('op', [
  op('describe', {}),
  op('status', {}),
  op('trackDirty', {}),
  op('collectDirty', { into: z.enum(['replace', 'add']) }),
  op('untrackDirty', {}),
  op('pause', {}),
  op('hold', {}),
  op('halt', {}),
  op('trapAbsent', {}),
  op('untrap', {}),
  op('resume', {}),
  op('throttle', { percent: z.number().int().min(0).max(99) }),
  op('exportState', {}),
  op('importState', {}),
  op('check', {}),
  op('vtpm', { command: z.unknown() }),
  op('quit', {}),
]);
export type AgentRequest = z.infer<typeof agentRequestSchema>;

/** What a guest process is started with, as JSON in the VM's state folder. No secret is in it. */
export const guestConfigSchema = z.strictObject({
  name: nameSchema,
  vmId: z.uuid(),
  start: z.enum(['new', 'incoming']),
  memoryDir: z.string(),
  vtpmDir: z.string(),
  logPath: z.string(),
  ramBytes: z.number().int(),
  vcpus: z.number().int().min(1).max(64),
  workload: workloadSchema,
  fill: z.number().min(0).max(1),
  imagePath: z.string().nullable(),
  imageBytes: z.number().int().min(0),
  dirtyTracking: z.enum(['auto', 'uffd', 'log']),
  extendMs: z.number().int().min(1),
});
export type GuestConfig = z.infer<typeof guestConfigSchema>;
