/** The daemon's end of a guest's agent socket: requests with a limit, answers by their number. */
import { connect, type Socket } from 'node:net';
import { z } from 'zod';
import { GUEST_REQUEST_MS_MAX } from '../../base/limits.ts';
import { MigError } from '../../protocol/error.ts';
import { encodeFrame, FrameDecoder, type AgentRequest } from './agent-protocol.ts';

const replySchema = z.union([
  z.strictObject({
    id: z.number(),
    error: z.strictObject({ code: z.string(), detail: z.string() }),
  }),
  z.strictObject({ id: z.number(), result: z.unknown() }),
]);

type Asked<T = AgentRequest> = T extends AgentRequest ? Omit<T, 'id'> : never;

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: MigError) => void;
  readonly timer: NodeJS.Timeout;
}

export class AgentClient {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const decoder = new FrameDecoder();
    socket.on('data', (bytes) => {
      try {
        for (const frame of decoder.push(bytes)) this.#answered(frame);
      } catch (thrown) {
        socket.destroy(MigError.from(thrown));
      }
    });
    socket.on('error', () => undefined);
    socket.on('close', () => this.#failAll(new MigError('GUEST_FAILED', 'its process is gone')));
  }

  /** Throws GUEST_FAILED when nobody listens. */
  static async connect(path: string): Promise<AgentClient> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', (cause) =>
        reject(new MigError('GUEST_FAILED', cause.message, { cause })),
      );
    });
    return new AgentClient(socket);
  }

  /** Throws the guest's own coded error, GUEST_FAILED when it dies, GUEST_SILENT past the limit. */
  request(asked: Asked): Promise<unknown> {
    this.#lastId += 1;
    const id = this.#lastId;
    if (this.#socket.destroyed) {
      return Promise.reject(new MigError('GUEST_FAILED', 'its process is gone'));
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new MigError('GUEST_SILENT', asked.op));
      }, GUEST_REQUEST_MS_MAX);
      this.#pending.set(id, { resolve, reject, timer });
      this.#socket.write(encodeFrame({ ...asked, id }));
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #answered(frame: unknown): void {
    const reply = replySchema.parse(frame);
    const pending = this.#pending.get(reply.id);
    if (pending === undefined) return;
    this.#pending.delete(reply.id);
    clearTimeout(pending.timer);
    if ('error' in reply) {
      pending.reject(MigError.named(reply.error.code, reply.error.detail, 'GUEST_FAILED'));
    } else pending.resolve(reply.result);
  }

  #failAll(error: MigError): void {
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#pending.clear();
  }
}
