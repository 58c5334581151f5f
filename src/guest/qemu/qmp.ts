/**
 * A client of a QEMU's monitor: greeting, negotiation, commands answered by their number, events. Each
 * wait has a limit; each answer is checked by the schema that its caller names. A monitor that says what
 * it may not is not listened to any more.
 *
 * A monitor serves one client at a time: a second one is greeted when the first has gone.
 */
import { connect, type Socket } from 'node:net';
import type { z } from 'zod';
import { Broadcast } from '../../base/broadcast.ts';
import { QMP_COMMAND_MS_MAX } from '../../base/limits.ts';
import { MigError } from '../../protocol/error.ts';
import {
  encodeCommand,
  greetingSchema,
  LineDecoder,
  messageSchema,
  type QemuVersion,
  type QmpEvent,
} from './qmp-messages.ts';

export type QmpArguments = Readonly<Record<string, unknown>>;

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: MigError) => void;
}

export class QmpClient {
  /** What QEMU tells unasked, from the negotiation on. */
  readonly events = new Broadcast<QmpEvent>(0);
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  readonly #gone = new AbortController();
  #greeted: Pending | undefined;
  #version: QemuVersion | undefined;
  #lastId = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const decoder = new LineDecoder();
    socket.on('data', (bytes) => {
      try {
        for (const line of decoder.push(bytes)) this.#heard(line);
      } catch (thrown) {
        this.#end(MigError.from(thrown, 'GUEST_FAILED'));
      }
    });
    socket.on('error', () => undefined);
    socket.on('close', () => this.#end(new MigError('GUEST_FAILED', 'QMP: the monitor is gone')));
  }

  /**
   * Connects to a monitor's Unix socket and negotiates. `limitMs` is for all of it. Throws GUEST_FAILED
   * when nobody listens or what is said is not QMP, GUEST_SILENT past the limit.
   */
  static async connect(path: string, limitMs = QMP_COMMAND_MS_MAX): Promise<QmpClient> {
    const socket = connect(path);
    const client = new QmpClient(socket);
    try {
      client.#version = await client.#within('greeting', limitMs, (pending) => {
        client.#greeted = pending;
        socket.once('error', (cause) => client.#end(unreachable(cause)));
      });
      await client.#send('qmp_capabilities', {}, limitMs);
      return client;
    } catch (thrown) {
      client.close();
      throw thrown;
    }
  }

  /** As greeted. */
  get version(): QemuVersion {
    if (this.#version === undefined) throw new Error('not greeted yet');
    return this.#version;
  }

  /** Aborted when nobody answers here any more. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /**
   * One command; resolves to its answer as `schema` has it. Throws GUEST_FAILED with QEMU's own words
   * when it refuses, has gone or answers in another form, GUEST_SILENT past the limit. An answer that
   * comes later is passed over, but QEMU may have done as it was told.
   */
  async execute<S extends z.ZodType>(
    command: string,
    args: QmpArguments,
    schema: S,
    limitMs = QMP_COMMAND_MS_MAX,
  ): Promise<z.output<S>> {
    const { data, success } = schema.safeParse(await this.#send(command, args, limitMs));
    if (!success) throw new MigError('GUEST_FAILED', `QMP: ${command}: another form of answer`);
    return data;
  }

  close(): void {
    this.#end(new MigError('GUEST_FAILED', 'QMP: closed'));
  }

  #send(command: string, args: QmpArguments, limitMs: number): Promise<unknown> {
    if (this.#gone.signal.aborted) {
      return Promise.reject(new MigError('GUEST_FAILED', 'QMP: the monitor is gone'));
    }
    this.#lastId += 1;
    const id = this.#lastId;
    const answered = this.#within<unknown>(command, limitMs, (pending) => {
      this.#pending.set(id, pending);
      this.#socket.write(encodeCommand(command, args, id));
    });
    return answered.finally(() => this.#pending.delete(id));
  }

  #within<T>(what: string, limitMs: number, begin: (pending: Pending) => void): Promise<T> {
    return new Promise<unknown>((resolve, reject) => {
      const timer = setTimeout(() => reject(new MigError('GUEST_SILENT', `QMP: ${what}`)), limitMs);
      const settling =
        <V>(settle: (value: V) => void) =>
        (value: V) => {
          clearTimeout(timer);
          settle(value);
        };
      const failing = (error: MigError) => reject(said(what, error));
      begin({ resolve: settling(resolve), reject: settling(failing) });
    }) as Promise<T>;
  }

  #heard(line: unknown): void {
    if (this.#version === undefined) {
      const { data } = greetingSchema.safeParse(line);
      if (data === undefined) throw new MigError('GUEST_FAILED', 'QMP: no greeting');
      this.#version = data.QMP.version.qemu;
      this.#greeted?.resolve(this.#version);
      return;
    }
    const { data: message } = messageSchema.safeParse(line);
    if (message === undefined) throw new MigError('GUEST_FAILED', 'QMP: neither answer nor event');
    if ('event' in message) {
      this.events.tell(message);
      return;
    }
    // Past its limit nobody waits for it any more.
    const pending = this.#pending.get(message.id);
    if ('error' in message) pending?.reject(new MigError('GUEST_FAILED', message.error.desc));
    else pending?.resolve(message.return);
  }

  #end(error: MigError): void {
    this.#socket.destroy();
    this.#greeted?.reject(error);
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    this.#gone.abort();
  }
}

const unreachable = (cause: Error): MigError =>
  new MigError('GUEST_FAILED', `QMP: ${cause.message}`, { cause });

/** QEMU's words, with the command that they are about. */
const said = (command: string, error: MigError): MigError =>
  error.detail.startsWith('QMP: ')
    ? error
    : new MigError(error.code, `QMP: ${command}: ${error.detail}`);
