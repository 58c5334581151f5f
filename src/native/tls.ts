/**
 * TLS by OpenSSL's own calls. A handshake runs on bytes that are given and taken, so that nobody waits
 * in it; once it is over the connection can be put onto a socket that a thread waits on. Which
 * versions, groups and certificates are good is its caller's business.
 *
 * ssl.h, tls1.h, x509_vfy.h, bio.h of OpenSSL 3.
 */
import koffi from 'koffi';
import { assert } from '../base/assert.ts';
import { KiB } from '../base/units.ts';
import { MigError } from '../protocol/error.ts';
import { done, openssl, takeError, type Address } from './openssl.ts';
import type { BlockingLink } from './sockets.ts';
import type { TlsContext } from './tls-context.ts';

const SSL_new = openssl('uintptr_t SSL_new(uintptr_t ctx)');
const SSL_free = openssl('void SSL_free(uintptr_t ssl)');
const SSL_set_connect_state = openssl('void SSL_set_connect_state(uintptr_t ssl)');
const SSL_set_accept_state = openssl('void SSL_set_accept_state(uintptr_t ssl)');
const SSL_set_bio = openssl('void SSL_set_bio(uintptr_t ssl, uintptr_t rbio, uintptr_t wbio)');
const SSL_set_fd = openssl('int SSL_set_fd(uintptr_t ssl, int fd)');
const SSL_do_handshake = openssl('int SSL_do_handshake(uintptr_t ssl)');
const SSL_get_error = openssl('int SSL_get_error(uintptr_t ssl, int result)');
const SSL_has_pending = openssl('int SSL_has_pending(uintptr_t ssl)');
const SSL_read = openssl('int SSL_read(uintptr_t ssl, void *buf, int num)');
const SSL_write = openssl('int SSL_write(uintptr_t ssl, void *buf, int num)');
const SSL_get_verify_result = openssl('long SSL_get_verify_result(uintptr_t ssl)');
const SSL_get1_peer_certificate = openssl('uintptr_t SSL_get1_peer_certificate(uintptr_t ssl)');
const i2d_X509 = openssl('int i2d_X509(uintptr_t x, void *out)');
const X509_free = openssl('void X509_free(uintptr_t x)');
const SSL_get0_alpn_selected = openssl(
  'void SSL_get0_alpn_selected(uintptr_t ssl, void *data, void *length)',
);
const SSL_export_keying_material = openssl(
  'int SSL_export_keying_material(uintptr_t ssl, void *out, size_t length, void *label, size_t label_length, void *context, size_t context_length, int use_context)',
);
const BIO_new = openssl('uintptr_t BIO_new(uintptr_t type)');
const BIO_s_mem = openssl('uintptr_t BIO_s_mem()');
const BIO_read = openssl('int BIO_read(uintptr_t bio, void *data, int length)');
const BIO_write = openssl('int BIO_write(uintptr_t bio, void *data, int length)');
const BIO_ctrl_pending = openssl('size_t BIO_ctrl_pending(uintptr_t bio)');

const SSL_ERROR_WANT_READ = 2;
const SSL_ERROR_WANT_WRITE = 3;
const SSL_ERROR_SYSCALL = 5;
const SSL_ERROR_ZERO_RETURN = 6;

/** x509_vfy.h, with the names that Node gives them. */
const VERIFICATION: Readonly<Record<number, string>> = {
  2: 'UNABLE_TO_GET_ISSUER_CERT',
  3: 'UNABLE_TO_GET_CRL',
  7: 'CERT_SIGNATURE_FAILURE',
  8: 'CRL_SIGNATURE_FAILURE',
  9: 'CERT_NOT_YET_VALID',
  10: 'CERT_HAS_EXPIRED',
  11: 'CRL_NOT_YET_VALID',
  12: 'CRL_HAS_EXPIRED',
  18: 'DEPTH_ZERO_SELF_SIGNED_CERT',
  19: 'SELF_SIGNED_CERT_IN_CHAIN',
  20: 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  21: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  22: 'CERT_CHAIN_TOO_LONG',
  23: 'CERT_REVOKED',
  25: 'PATH_LENGTH_EXCEEDED',
  26: 'INVALID_PURPOSE',
  27: 'CERT_UNTRUSTED',
  28: 'CERT_REJECTED',
  79: 'INVALID_CA',
};

/** A failure with the code that Node would give it. */
export class TlsFailure extends Error {
  readonly code: string;

  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

export type HandshakeStep = 'wants more' | 'done';

/** One connection. To be freed once, by whoever made it. */
export class TlsSession implements Disposable {
  readonly #ssl: Address;
  /** What came and what is to go, until it is put onto a socket; SSL owns them. */
  readonly #incoming: Address;
  readonly #outgoing: Address;
  readonly #piece = new Uint8Array(16 * KiB);
  #isFreed = false;

  constructor(context: TlsContext) {
    this.#ssl = done('SSL_new', Number(SSL_new(context.address)));
    this.#incoming = done('BIO_new', Number(BIO_new(BIO_s_mem())));
    this.#outgoing = done('BIO_new', Number(BIO_new(BIO_s_mem())));
    SSL_set_bio(this.#ssl, this.#incoming, this.#outgoing);
    if (context.side === 'client') SSL_set_connect_state(this.#ssl);
    else SSL_set_accept_state(this.#ssl);
  }

  /** Bytes that came from the peer. */
  give(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const taken = BIO_write(this.#incoming, bytes, bytes.length);
    assert(taken === bytes.length, 'a memory BIO takes all');
  }

  /** Bytes that are to go to the peer; also after a failure, which it is told by them. */
  take(): Buffer {
    const pieces: Buffer[] = [];
    while (Number(BIO_ctrl_pending(this.#outgoing)) > 0) {
      const got = BIO_read(this.#outgoing, this.#piece, this.#piece.length);
      pieces.push(Buffer.from(this.#piece.subarray(0, got)));
    }
    return Buffer.concat(pieces);
  }

  /** Goes on with what was given. Throws TlsFailure. */
  handshake(): HandshakeStep {
    const result = SSL_do_handshake(this.#ssl);
    if (result === 1) return 'done';
    if (SSL_get_error(this.#ssl, result) === SSL_ERROR_WANT_READ) return 'wants more';
    const verification = Number(SSL_get_verify_result(this.#ssl));
    const error = takeError();
    if (verification !== 0) throw new TlsFailure(VERIFICATION[verification] ?? 'UNSPECIFIED');
    throw new TlsFailure(error ?? 'ECONNRESET');
  }

  /** The peer's certificate, DER. Throws NATIVE_FAILED when it showed none. */
  peerCertificate(): Buffer {
    const x509 = done('peer certificate', Number(SSL_get1_peer_certificate(this.#ssl)));
    try {
      const der = Buffer.alloc(done('i2d_X509', i2d_X509(x509, null)));
      done('i2d_X509', i2d_X509(x509, new BigUint64Array([koffi.address(der)])));
      return der;
    } finally {
      X509_free(x509);
    }
  }

  /** Empty when none was agreed on. */
  alpnProtocol(): string {
    const data = new BigUint64Array(1);
    const length = new Uint32Array(1);
    SSL_get0_alpn_selected(this.#ssl, data, length);
    const [at = 0n] = data;
    const [bytes = 0] = length;
    return at === 0n || bytes === 0 ? '' : Buffer.from(koffi.view(at, bytes)).toString('latin1');
  }

  /** RFC 8446 §7.5, with an empty context. The caller wipes it. */
  exportKeyingMaterial(bytes: number, label: string): Buffer {
    const out = Buffer.alloc(bytes);
    const name = Buffer.from(label, 'latin1');
    const result = SSL_export_keying_material(
      this.#ssl,
      out,
      bytes,
      name,
      name.length,
      Buffer.alloc(1),
      0,
      1,
    );
    done('SSL_export_keying_material', result);
    return out;
  }

  /** Bytes read; 0 when there are none yet. Throws TlsFailure, and CHANNEL_LOST at the end. */
  read(into: Uint8Array): number {
    if (into.length === 0) return 0;
    const got = SSL_read(this.#ssl, into, into.length);
    return got > 0 ? got : this.#nothing(got);
  }

  /** Bytes written; 0 when there is no room yet. Throws as `read`. */
  write(from: Uint8Array): number {
    if (from.length === 0) return 0;
    const sent = SSL_write(this.#ssl, from, from.length);
    return sent > 0 ? sent : this.#nothing(sent);
  }

  /** Bytes that were given and not read yet. */
  get unreadBytes(): number {
    return Number(BIO_ctrl_pending(this.#incoming));
  }

  /**
   * From now on it reads from and writes to a socket that waits. Everything given must have been read,
   * everything to go taken. The session is freed with the link.
   */
  putOnto(fd: number): BlockingLink {
    assert(this.unreadBytes === 0, 'bytes that came would be lost');
    assert(Number(BIO_ctrl_pending(this.#outgoing)) === 0, 'bytes to go would be lost');
    done('SSL_set_fd', SSL_set_fd(this.#ssl, fd));
    const ssl = this.#ssl;
    return {
      fd,
      get holdsBytes() {
        return SSL_has_pending(ssl) === 1;
      },
      read: (into) => this.#lost(() => this.read(into)),
      write: (from) => this.#lost(() => this.write(from)),
      [Symbol.dispose]: () => this[Symbol.dispose](),
    };
  }

  #lost(work: () => number): number {
    try {
      return work();
    } catch (thrown) {
      if (!(thrown instanceof TlsFailure)) throw thrown;
      throw new MigError('CHANNEL_LOST', thrown.code, { cause: thrown });
    }
  }

  /** After a call that read or wrote nothing. */
  #nothing(result: number): 0 {
    switch (SSL_get_error(this.#ssl, result)) {
      case SSL_ERROR_WANT_READ:
      case SSL_ERROR_WANT_WRITE:
        takeError();
        return 0;
      case SSL_ERROR_ZERO_RETURN:
        throw new MigError('CHANNEL_LOST', 'closed by the peer');
      case SSL_ERROR_SYSCALL:
        throw new TlsFailure(takeError() ?? 'ECONNRESET');
      default:
        throw new TlsFailure(takeError() ?? 'ERR_SSL_UNKNOWN');
    }
  }

  /** Also wipes its keys. */
  [Symbol.dispose](): void {
    if (this.#isFreed) return;
    this.#isFreed = true;
    SSL_free(this.#ssl);
  }
}
