/**
 * The client's side of the control API (daemon/api/schema.ts) on one WebSocket: over the daemon's
 * Unix socket, or over mutual TLS to a host whose certificate is checked before anything is asked.
 * It does not know which daemon to ask, nor what the answers mean.
 */
import { connect as tlsConnect, type TLSSocket } from 'node:tls';
import { WebSocket, type RawData } from 'ws';
import type { z } from 'zod';
import { CONNECT_MS_MAX } from '../base/limits.ts';
import type { Identity } from '../crypto/pki/identity.ts';
import { classifyTlsError } from '../crypto/pki/tls-error.ts';
import type {
  DaemonView,
  HostView,
  Method,
  MigrationView,
  VmDetail,
  VmView,
} from '../daemon/api/schema.ts';
import { METHODS } from '../daemon/api/schema.ts';
import { API_PATH } from '../daemon/listener.ts';
import type { SelfCheck } from '../guest/driver.ts';
import type { MigrationEvent, MigrationResult } from '../migration/report.ts';
import { MigError } from '../protocol/error.ts';
import { hostPeer, REFUSAL_HEADER, splitAddress } from '../transport/control.ts';
import { clientOptions, CONTROL_ALPN } from '../transport/tls.ts';

/** A row of `history`: a migration that may have ended, as the durable record has it. */
export type PastMigration = Pick<
  MigrationView,
  'migrationId' | 'vm' | 'from' | 'to' | 'direction' | 'startedAtMs' | 'outcome' | 'code'
> & {
  readonly state: string;
  readonly detail: string;
  /** The try that followed it, where the destination had no place. */
  readonly next: string | null;
  /** The operator's statement by which it was settled, if so. */
  readonly fencing: { readonly operator: string; readonly atMs: number } | null;
};

/** What each method answers. */
export interface Answers {
  readonly hello: DaemonView;
  readonly 'vm.create': VmView;
  readonly 'vm.list': readonly VmView[];
  readonly 'vm.show': VmDetail;
  readonly 'vm.check': SelfCheck;
  readonly 'vm.pause': VmView;
  readonly 'vm.resume': VmView;
  readonly 'vm.delete': object;
  readonly migrate: MigrationResult | { readonly migrationId: string };
  readonly status: readonly (MigrationView | PastMigration)[];
  readonly watch: MigrationResult;
  readonly history: readonly PastMigration[];
  readonly cancel: PastMigration;
  readonly resolve: PastMigration;
  readonly hosts: readonly HostView[];
}

export type Asked<M extends Method> = z.input<(typeof METHODS)[M]>;

/** An event, and the result too, of a migration that is followed. */
export type Hear = (event: MigrationEvent) => void;

interface Waiting {
  readonly hear: Hear;
  readonly settle: (answer: { readonly result: unknown } | { readonly error: MigError }) => void;
}

export class ApiClient {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data: RawData) => this.#receive(data));
    socket.on('error', () => socket.terminate());
    socket.on('close', () => {
      for (const { settle } of this.#waiting.values()) settle({ error: connectionLost() });
      this.#waiting.clear();
    });
  }

  /**
   * Asks once. Throws USAGE when the parameters are not what the method takes, NO_DAEMON when the
   * connection ends before the answer, and whatever code the daemon answers with.
   */
  ask<M extends Method>(
    method: M,
    params: Asked<M>,
    hear: Hear = () => undefined,
  ): Promise<Answers[M]> {
    const parsed = METHODS[method].safeParse(params);
    if (!parsed.success) return Promise.reject(unfit(parsed.error));
    if (this.#socket.readyState !== WebSocket.OPEN) return Promise.reject(connectionLost());
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, {
        hear,
        settle: (answer) => {
          if ('error' in answer) reject(answer.error);
          else resolve(answer.result as Answers[M]);
        },
      });
      this.#socket.send(JSON.stringify({ id, method, params: parsed.data }));
    });
  }

  close(): void {
    this.#socket.terminate();
  }

  #receive(data: RawData): void {
    const answer = parse(data);
    const waiting = answer === undefined ? undefined : this.#waiting.get(answer.id);
    if (answer === undefined || waiting === undefined) {
      this.#socket.terminate();
      return;
    }
    if (answer.event !== undefined) {
      waiting.hear(answer.event);
      return;
    }
    this.#waiting.delete(answer.id);
    const { error } = answer;
    waiting.settle(
      error === undefined
        ? { result: answer.result }
        : { error: MigError.named(error.code, error.detail, 'INTERNAL') },
    );
  }
}

interface Answer {
  readonly id: number;
  readonly event?: MigrationEvent;
  readonly result?: unknown;
  readonly error?: { readonly code: string; readonly detail: string };
}

/** The daemon is trusted with the form of its answers: it is our own, or a proven host. */
function parse(data: RawData): Answer | undefined {
  try {
    return Buffer.isBuffer(data) ? (JSON.parse(data.toString()) as Answer) : undefined;
  } catch {
    return undefined;
  }
}

const connectionLost = () => new MigError('NO_DAEMON', 'it closed the connection');

const unfit = (error: z.ZodError): MigError => {
  const [issue] = error.issues;
  return new MigError('USAGE', `${issue?.path.join('.')}: ${issue?.message}`);
};

/** Connects to a daemon on this machine. Throws NO_DAEMON. */
export function connectLocal(socketPath: string): Promise<ApiClient> {
  return opened(
    new WebSocket(`ws+unix:${socketPath}:${API_PATH}`, {
      handshakeTimeout: CONNECT_MS_MAX,
      perMessageDeflate: false,
    }),
    (error) => new MigError('NO_DAEMON', socketPath, { cause: error }),
    () => undefined,
  );
}

/**
 * Connects to the host at `address` and makes sure that it is a host of our CA, and the one named
 * `expected` when given. Throws NO_DAEMON (nothing there), PEER_WRONG, CERT_….
 */
export function connectRemote(input: {
  readonly address: string;
  readonly expected: string | undefined;
  readonly identity: Identity;
}): Promise<ApiClient> {
  const { address, expected, identity } = input;
  const { host, port } = splitAddress(address);
  let tls: TLSSocket | undefined;
  const socket = new WebSocket(`wss://${address}${API_PATH}`, {
    handshakeTimeout: CONNECT_MS_MAX,
    perMessageDeflate: false,
    followRedirects: false,
    createConnection: () => {
      tls = tlsConnect({ ...clientOptions(identity, CONTROL_ALPN), host, port });
      return tls;
    },
  });
  const failed = (error: Error): MigError => {
    const code = classifyTlsError(error);
    const detail = `${expected ?? 'host'} at ${address}`;
    return new MigError(code === 'PEER_UNREACHABLE' ? 'NO_DAEMON' : code, detail, { cause: error });
  };
  return opened(socket, failed, () => {
    if (tls === undefined) throw new MigError('INTERNAL', 'no TLS socket');
    const { name } = hostPeer(tls);
    if (expected !== undefined && name !== expected) {
      throw new MigError('PEER_WRONG', `${address} is ${name}, not ${expected}`);
    }
  });
}

function opened(
  socket: WebSocket,
  failed: (error: Error) => MigError,
  check: () => void,
): Promise<ApiClient> {
  return new Promise((resolve, reject) => {
    const fail = (error: MigError) => {
      reject(error);
      socket.terminate();
    };
    // Stays: `terminate` during the handshake says so by another error.
    socket.on('error', (error) => fail(failed(error)));
    socket.once('unexpected-response', (_request, response) => {
      const code = response.headers[REFUSAL_HEADER];
      const detail = `the daemon answered with HTTP status ${response.statusCode}`;
      response.resume();
      fail(
        typeof code === 'string'
          ? MigError.named(code, 'said by the daemon', 'PEER_CLOSED')
          : new MigError('NO_DAEMON', detail),
      );
    });
    socket.once('open', () => {
      try {
        check();
        resolve(new ApiClient(socket));
      } catch (thrown) {
        fail(MigError.from(thrown, 'CERT_INVALID'));
      }
    });
  });
}
