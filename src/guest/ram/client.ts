/**
 * The daemon's end of a guest's agent socket: requests with a limit, answers by their number. A guest
 * that answers what it may not is not listened to any more.
 */
import { connect, type Socket } from 'node:net';
import { GUEST_REQUEST_MS_MAX } from '../../base/limits.ts';
import { MigError } from '../../protocol/error.ts';
import { encodeFrame, FrameDecoder, type AgentRequest } from './agent-protocol.ts';
import { replySchema, RESULTS, type ResultOf } from './agent-replies.ts';

type Op = AgentRequest['op'];
type Asked<O extends Op> = Omit<Extract<AgentRequest, { op: O }>, 'id'> & { readonly op: O };

interface Pending {
  readonly op: Op;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: MigError) => void;
  readonly timer: NodeJS.Timeout;
}

export class AgentClient {
  readonly #socket: Socket;
  readonly #limitMs: number;
  readonly #pending = new Map<number, Pending>();
  readonly #gone = new AbortController();
  #lastId = 0;

  private constructor(socket: Socket, limitMs: number) {
    this.#socket = socket;
    this.#limitMs = limitMs;
    const decoder = new FrameDecoder();
    socket.on('data', (bytes) => {
      try {
        for (const frame of decoder.push(bytes)) this.#answered(frame);
      } catch (thrown) {
        this.#failAll(MigError.from(thrown, 'GUEST_FAILED'));
        socket.destroy();
      }
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#failAll(new MigError('GUEST_FAILED', 'its process is gone'));
      this.#gone.abort();
    });
  }

  /** Aborted when nobody answers here any more. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** `limitMs`: for each request. Throws GUEST_FAILED when nobody listens. */
  static async connect(path: string, limitMs = GUEST_REQUEST_MS_MAX): Promise<AgentClient> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', (cause) =>
        reject(new MigError('GUEST_FAILED', cause.message, { cause })),
      );
    });
    return new AgentClient(socket, limitMs);
  }

  /** Throws the guest's own coded error, GUEST_FAILED when it dies, GUEST_SILENT past the limit. */
  request<O extends Op>(asked: Asked<O>, limitMs = this.#limitMs): Promise<ResultOf<O>> {
    this.#lastId += 1;
    const id = this.#lastId;
    if (this.#socket.destroyed) {
      return Promise.reject(new MigError('GUEST_FAILED', 'its process is gone'));
    }
    return new Promise<unknown>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new MigError('GUEST_SILENT', asked.op));
      }, limitMs);
      this.#pending.set(id, { op: asked.op, resolve, reject, timer });
      this.#socket.write(encodeFrame({ ...asked, id }));
    }) as Promise<ResultOf<O>>;
  }

  close(): void {
    this.#socket.destroy();
  }

  #answered(frame: unknown): void {
    const { data: reply } = replySchema.safeParse(frame);
    if (reply === undefined) throw new MigError('GUEST_FAILED', 'it answers what is no answer');
    const pending = this.#pending.get(reply.id);
    // An answer that came past the limit.
    if (pending === undefined) return;
    const answer = 'error' in reply ? undefined : RESULTS[pending.op].safeParse(reply.result);
    if (answer?.success === false) {
      throw new MigError('GUEST_FAILED', `its answer to ${pending.op} has another form`);
    }
    this.#pending.delete(reply.id);
    clearTimeout(pending.timer);
    if (answer !== undefined) pending.resolve(answer.data);
    else if ('error' in reply) {
      pending.reject(MigError.named(reply.error.code, reply.error.detail, 'GUEST_FAILED'));
    }
  }

  #failAll(error: MigError): void {
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#pending.clear();
  }
}
