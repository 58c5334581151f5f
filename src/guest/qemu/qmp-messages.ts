/**
 * The QEMU Machine Protocol as text: one JSON object a line, each way (QEMU's docs/interop/qmp-spec).
 * Knows the forms of what a monitor says and not what any command means. A QEMU that was taken over by
 * its guest is no friend: every line is bounded and checked.
 */
import { z } from 'zod';
import {
  GUEST_DETAIL_CHARS_MAX,
  QMP_EVENT_CHARS_MAX,
  QMP_LINE_BYTES_MAX,
} from '../../base/limits.ts';
import { MigError } from '../../protocol/error.ts';

const count = z.number().int().min(0).max(1_000_000);

/** QMP objects grow members from version to version: what is not named here is passed over. */
export const greetingSchema = z.object({
  QMP: z.object({
    version: z.object({ qemu: z.object({ major: count, minor: count, micro: count }) }),
  }),
});
export type QemuVersion = z.infer<typeof greetingSchema>['QMP']['version']['qemu'];

const eventSchema = z.object({
  event: z.string().max(QMP_EVENT_CHARS_MAX),
  data: z.record(z.string(), z.unknown()).default({}),
});
export type QmpEvent = z.infer<typeof eventSchema>;

const id = z.number().int().min(1);

export const messageSchema = z.union([
  eventSchema,
  z.object({ id, return: z.unknown() }).refine((reply) => 'return' in reply),
  z.object({
    id,
    error: z.object({
      class: z.string(),
      desc: z.string().transform((text) => text.slice(0, GUEST_DETAIL_CHARS_MAX)),
    }),
  }),
]);
export type QmpMessage = z.infer<typeof messageSchema>;

export const encodeCommand = (
  command: string,
  args: Readonly<Record<string, unknown>>,
  commandId: number,
): string => `${JSON.stringify({ execute: command, arguments: args, id: commandId })}\n`;

/** Cuts a stream of bytes, however it comes in pieces, into the JSON values of its lines. */
export class LineDecoder {
  #parts: Buffer[] = [];
  #bytes = 0;

  /** Throws GUEST_FAILED for a line that is too long or no JSON; it is then of no more use. */
  *push(chunk: Buffer): Generator {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf('\n', start);
      const part = chunk.subarray(start, end === -1 ? undefined : end);
      this.#bytes += part.length;
      if (this.#bytes > QMP_LINE_BYTES_MAX) {
        throw new MigError('GUEST_FAILED', 'QMP: a line is longer than it may be');
      }
      this.#parts.push(part);
      if (end === -1) return;
      const line = Buffer.concat(this.#parts, this.#bytes).toString();
      this.#parts = [];
      this.#bytes = 0;
      start = end + 1;
      yield parse(line);
    }
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch (cause) {
    throw new MigError('GUEST_FAILED', 'QMP: a line is no JSON', { cause });
  }
}
