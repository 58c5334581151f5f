/**
 * Serves the control API on a WebSocket, whoever accepted it: each frame is bounded and checked, each
 * request answered once; a caller that does not read is dropped.
 */
import { chmodSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { WebSocketServer, type RawData, type WebSocket } from 'ws';
import {
  API_BACKLOG_BYTES_MAX,
  API_FRAME_BYTES_MAX,
  API_REQUESTS_MAX,
  CONNECTIONS_MAX,
} from '../../base/limits.ts';
import { descriptorOf } from '../../native/descriptors.ts';
import { peerCredentials } from '../../native/peer-credentials.ts';
import { MigError } from '../../protocol/error.ts';
import { METHODS, requestSchema, type Method } from './schema.ts';

/** Who asks: an operator by certificate, or whoever may open the Unix socket of this host. */
export interface Caller {
  readonly name: string;
  readonly isLocal: boolean;
}

/** One request on its way. */
export interface Call {
  /** Tells the caller something before the result. */
  readonly emit: (event: object) => void;
  /** Aborted when the caller is gone. */
  readonly signal: AbortSignal;
  readonly caller: Caller;
}

export type Handler = (method: Method, params: unknown, call: Call) => Promise<unknown>;

export interface ApiParts {
  readonly handler: Handler;
  readonly log: Logger;
}

const isMethod = (name: string): name is Method => Object.hasOwn(METHODS, name);

/** Serves one connection until it closes. */
export function serveApi(socket: WebSocket, caller: Caller, { handler, log }: ApiParts): void {
  const gone = new AbortController();
  let underWay = 0;
  const send = (message: object) => {
    if (socket.bufferedAmount > API_BACKLOG_BYTES_MAX) socket.terminate();
    else if (socket.readyState === socket.OPEN) socket.send(JSON.stringify(message));
  };

  const answer = async (id: number, method: string, params: unknown): Promise<void> => {
    try {
      if (!isMethod(method)) throw new MigError('REQUEST_INVALID', `no method ${method}`);
      const parsed = METHODS[method].safeParse(params);
      if (!parsed.success) {
        const issue = parsed.error.issues[0];
        throw new MigError('REQUEST_INVALID', `${issue?.path.join('.')}: ${issue?.message}`);
      }
      const emit = (event: object) => send({ id, event });
      const call = { emit, signal: gone.signal, caller };
      send({ id, result: (await handler(method, parsed.data, call)) ?? null });
    } catch (thrown) {
      const error = MigError.from(thrown);
      if (error.code === 'INTERNAL') log.error({ err: thrown, method }, 'request failed');
      send({ id, error: { code: error.code, detail: error.detail } });
    }
  };

  socket.on('message', (data: RawData, isBinary: boolean) => {
    const request = isBinary ? undefined : parse(data);
    if (request === undefined || underWay >= API_REQUESTS_MAX) {
      socket.close(1008);
      return;
    }
    underWay += 1;
    void answer(request.id, request.method, request.params).finally(() => {
      underWay -= 1;
    });
  });
  socket.on('error', () => socket.terminate());
  socket.on('close', () => gone.abort());
}

function parse(data: RawData) {
  try {
    const text = Buffer.isBuffer(data) ? data.toString() : '';
    const parsed = requestSchema.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

/** Longest path of a Unix socket (sun_path of linux/un.h, less its NUL). */
const SOCKET_PATH_BYTES_MAX = 107;

/**
 * Listens on a Unix socket that only this user may open. The state directory's lock must be held: a
 * socket that lies there already is a dead daemon's. Throws LISTEN_FAILED.
 */
export async function listenUnix(path: string, parts: ApiParts): Promise<() => Promise<void>> {
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
    throw new MigError('LISTEN_FAILED', `${path} is too long for a socket: shorten --state-dir`);
  }
  rmSync(path, { force: true });
  const server = createServer((_request, response) => response.writeHead(404).end());
  server.maxConnections = CONNECTIONS_MAX;
  const sockets = new WebSocketServer({
    server,
    maxPayload: API_FRAME_BYTES_MAX,
    perMessageDeflate: false,
  });
  sockets.on('connection', (socket, request) =>
    serveApi(socket, { name: userOf(request.socket), isLocal: true }, parts),
  );
  await listening(server, path);
  chmodSync(path, 0o600);
  return () => {
    for (const socket of sockets.clients) socket.terminate();
    server.closeAllConnections();
    return new Promise((resolve) => {
      server.close(() => resolve());
    });
  };
}

/** The user who logged in, where the system keeps count of logins (proc(5), loginuid); else whose process it is. */
function userOf(socket: Socket): string {
  const { pid, uid } = peerCredentials(descriptorOf(socket));
  let login = NO_LOGIN;
  try {
    login = Number(readFileSync(`/proc/${pid}/loginuid`, 'utf8'));
  } catch {
    // It is gone by now, or nobody keeps count.
  }
  return `uid:${login === NO_LOGIN ? uid : login}`;
}

const NO_LOGIN = 0xffff_ffff;

const listening = (server: Server, path: string): Promise<void> => {
  // The folder is 0700; the mask covers the instant before the socket has its own permissions.
  const mask = process.umask(0o177);
  return new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new MigError('LISTEN_FAILED', cause.message, { cause })),
    );
    server.listen(path, resolve);
  }).finally(() => process.umask(mask));
};
