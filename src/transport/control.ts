/**
 * The control channel between two daemons: WebSocket binary frames over mutual TLS 1.3, one message
 * a frame. It proves who the peer is, bounds frames, finds a silent peer by its missing pongs, and
 * gives the channel binding; it knows nothing of what the frames say.
 */
import { createHash, X509Certificate, type KeyObject } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { connect as tlsConnect } from 'node:tls';
import { WebSocket, type RawData } from 'ws';
import { MESSAGE_BYTES_MAX } from '../base/limits.ts';
import type { Clock } from '../base/ports.ts';
import { classifyTlsError } from '../crypto/pki/tls-error.ts';
import type { Identity } from '../crypto/pki/identity.ts';
import { identityOf } from '../crypto/pki/spiffe.ts';
import type { Code } from '../protocol/codes.ts';
import { MigError } from '../protocol/error.ts';
import { clientOptions, CONTROL_ALPN } from './tls.ts';

/** The path of a migration's control channel; operators use `/api` (daemon/api). */
export const MIGRATE_PATH = '/migrate';
/** The path of a link by which a handover goes on. */
export const HANDOVER_PATH = '/handover';
/** The path of a session in which pages are served that were left of a VM that was handed over. */
export const SERVE_PATH = '/serve';

/** The header of an HTTP answer that says, by code, why a connection was refused. */
export const REFUSAL_HEADER = 'migd-code';

/** Who is at the other end, as its verified certificate says. */
export interface Peer {
  readonly name: string;
  readonly fingerprint256: Buffer;
  readonly publicKey: KeyObject;
}

export interface ControlHandlers {
  /** Called once for every frame, in order. */
  readonly frame: (bytes: Uint8Array) => void;
  /** Called once, when nothing more will come. */
  readonly closed: (code: Code, detail: string) => void;
}

/** One established control channel. */
export class ControlChannel {
  readonly peer: Peer;
  readonly ownFingerprint256: Buffer;
  readonly #socket: WebSocket;
  readonly #tls: TLSSocket;
  #closed = false;

  constructor(socket: WebSocket, tls: TLSSocket, peer: Peer) {
    this.#socket = socket;
    this.#tls = tls;
    this.peer = peer;
    this.ownFingerprint256 = ownFingerprint(tls);
  }

  /** The address the peer is reached at: data channels go to the same one. */
  get remoteAddress(): string {
    return this.#tls.remoteAddress ?? '';
  }

  get localAddress(): string {
    return this.#tls.localAddress ?? '';
  }

  /** Keying material of this TLS session (RFC 8446 §7.5). */
  exporter(label: string, context: Uint8Array, length: number): Buffer {
    return this.#tls.exportKeyingMaterial(length, label, Buffer.from(context));
  }

  /** Begins delivery; `silenceMs` without any sign of life ends the channel with PEER_SILENT. */
  listen(handlers: ControlHandlers, clock: Clock, silenceMs: number): void {
    const closed = (code: Code, detail: string) => {
      if (this.#closed) return;
      this.#closed = true;
      stopHeartbeat();
      handlers.closed(code, detail);
      this.#socket.terminate();
    };
    const stopHeartbeat = this.#heartbeat(clock, silenceMs, () =>
      closed('PEER_SILENT', `nothing heard for ${silenceMs} ms`),
    );
    this.#socket.on('message', (data: RawData, isBinary: boolean) => {
      if (this.#closed) return;
      if (isBinary && Buffer.isBuffer(data)) handlers.frame(data);
      else closed('MESSAGE_MALFORMED', 'a frame that is not binary');
    });
    this.#socket.on('error', (error) => {
      closed(
        'code' in error && error.code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH'
          ? 'MESSAGE_TOO_LARGE'
          : 'PEER_CLOSED',
        error.message,
      );
    });
    this.#socket.on('close', () => closed('PEER_CLOSED', ''));
  }

  /** Sends a frame. After the end it does nothing: the end is reported by `closed`. */
  send(frame: Uint8Array): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(frame, { binary: true });
  }

  /** Flushes what was sent, says goodbye, and closes within a bound. */
  close(): void {
    this.#socket.close(1000);
  }

  #heartbeat(clock: Clock, silenceMs: number, silent: () => void): () => void {
    let heardAt = clock.now();
    const heard = () => {
      heardAt = clock.now();
    };
    this.#socket.on('pong', heard);
    this.#socket.on('ping', heard);
    this.#socket.on('message', heard);
    const beat = () => {
      if (clock.now() - heardAt > silenceMs) {
        silent();
        return;
      }
      if (this.#socket.readyState === WebSocket.OPEN) this.#socket.ping();
      timer = clock.after(silenceMs / 4, beat);
    };
    let timer = clock.after(silenceMs / 4, beat);
    return () => timer.cancel();
  }
}

const ownFingerprint = (tls: TLSSocket): Buffer => {
  const own = tls.getCertificate();
  if (own === null || !('raw' in own)) throw new MigError('INTERNAL', 'no certificate of our own');
  return createHash('sha256').update(own.raw).digest();
};

/** The peer of a TLS socket; it must be a host that our CA has certified. Throws CERT_INVALID. */
export function hostPeer(tls: TLSSocket): Peer {
  const identity = peerIdentity(tls);
  if (identity.kind !== 'host')
    throw new MigError('CERT_INVALID', `a certificate of kind ${identity.kind}`);
  return identity;
}

/** The verified identity at the other end of a TLS socket. Throws CERT_INVALID. */
export function peerIdentity(tls: TLSSocket): Peer & { readonly kind: string } {
  const raw = tls.getPeerCertificate().raw as Buffer | undefined;
  if (raw === undefined) throw new MigError('CERT_INVALID', 'no certificate');
  const certificate = new X509Certificate(raw);
  const { kind, name, fingerprint256 } = identityOf(certificate);
  return { kind, name, fingerprint256, publicKey: certificate.publicKey };
}

/**
 * Connects to `address` ("host:port") and checks that it is the host `expected`. It waits until
 * `signal`: whoever asks has a deadline. Throws PEER_UNREACHABLE, PEER_WRONG, CERT_….
 */
export function connectControl(input: {
  readonly address: string;
  readonly path: typeof MIGRATE_PATH | typeof HANDOVER_PATH | typeof SERVE_PATH;
  readonly expected: string;
  readonly identity: Identity;
  readonly signal: AbortSignal;
}): Promise<ControlChannel> {
  const { address, path, expected, identity, signal } = input;
  const { host, port } = splitAddress(address);
  return new Promise((resolve, reject) => {
    let tls: TLSSocket | undefined;
    const socket = new WebSocket(`wss://${address}${path}`, {
      maxPayload: MESSAGE_BYTES_MAX,
      perMessageDeflate: false,
      followRedirects: false,
      // Under TLS masking protects nothing; a zero mask makes ws skip it.
      generateMask: (mask) => mask.fill(0),
      createConnection: () => {
        tls = tlsConnect({ ...clientOptions(identity, CONTROL_ALPN), host, port });
        return tls;
      },
    });
    const fail = (error: MigError) => {
      socket.terminate();
      reject(error);
    };
    const aborted = () => fail(new MigError('CANCELLED'));
    if (signal.aborted) aborted();
    signal.addEventListener('abort', aborted, { once: true });
    socket.once('error', (error) =>
      fail(
        error instanceof MigError
          ? error
          : new MigError(classifyTlsError(error), `${expected} at ${address}`, { cause: error }),
      ),
    );
    socket.once('unexpected-response', (_request, response) => {
      const code = String(response.headers[REFUSAL_HEADER]);
      response.resume();
      fail(MigError.named(code, `said by ${expected}`, 'PEER_CLOSED'));
    });
    socket.once('open', () => {
      signal.removeEventListener('abort', aborted);
      try {
        if (tls === undefined) throw new MigError('INTERNAL', 'no TLS socket');
        const peer = hostPeer(tls);
        if (peer.name !== expected) throw new MigError('PEER_WRONG', `it is ${peer.name}`);
        resolve(new ControlChannel(socket, tls, peer));
      } catch (thrown) {
        fail(MigError.from(thrown, 'CERT_INVALID'));
      }
    });
  });
}

/** `host:port` or `[host]:port` taken apart. Throws REQUEST_INVALID. */
export function splitAddress(address: string): { readonly host: string; readonly port: number } {
  const at = address.lastIndexOf(':');
  const port = Number(address.slice(at + 1));
  if (at < 1 || !Number.isInteger(port))
    throw new MigError('REQUEST_INVALID', `address ${address}`);
  return { host: address.slice(0, at).replaceAll(/[[\]]/g, ''), port };
}
