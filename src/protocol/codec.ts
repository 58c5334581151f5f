/**
 * Control messages to bytes and back: msgpack maps, one message a frame, bounded before decoding,
 * validated against the schema of their type after. The decoder throws only coded errors.
 */
import { Packr } from 'msgpackr';
import { z } from 'zod';
import { MESSAGE_BYTES_MAX } from '../base/limits.ts';
import { MigError } from './error.ts';
import { MESSAGES, type Message, type MessageType } from './messages.ts';

// Plain maps only: no records, no structured clone, no extension types, no shared buffers.
const packr = new Packr({
  useRecords: false,
  moreTypes: false,
  structuredClone: false,
  int64AsType: 'number',
  copyBuffers: true,
});

const envelopeSchema = z.looseObject({ type: z.string().max(64) });

/** A message as a frame. Throws MESSAGE_TOO_LARGE. */
export function encodeMessage(message: Message): Uint8Array {
  const frame = packr.pack(message);
  if (frame.length > MESSAGE_BYTES_MAX) {
    throw new MigError('MESSAGE_TOO_LARGE', `${message.type} of ${frame.length} bytes`);
  }
  return frame;
}

/** A frame as a message. Throws MESSAGE_TOO_LARGE, MESSAGE_MALFORMED, MESSAGE_UNKNOWN. */
export function decodeMessage(frame: Uint8Array): Message {
  if (frame.length > MESSAGE_BYTES_MAX) {
    throw new MigError('MESSAGE_TOO_LARGE', `${frame.length} bytes`);
  }
  const envelope = envelopeSchema.safeParse(unpack(frame));
  if (!envelope.success) throw new MigError('MESSAGE_MALFORMED', 'not a map with a type');
  const { type } = envelope.data;
  if (!isMessageType(type)) throw new MigError('MESSAGE_UNKNOWN', JSON.stringify(type));
  const parsed = MESSAGES[type].safeParse(envelope.data);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new MigError('MESSAGE_MALFORMED', `${type} ${issue?.path.join('.')}: ${issue?.message}`);
  }
  return parsed.data;
}

const isMessageType = (type: string): type is MessageType => Object.hasOwn(MESSAGES, type);

function unpack(frame: Uint8Array): unknown {
  try {
    return packr.unpack(frame) as unknown;
  } catch (cause) {
    throw new MigError('MESSAGE_MALFORMED', 'not msgpack', { cause });
  }
}
