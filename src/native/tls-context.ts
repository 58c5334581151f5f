/**
 * What TLS connections of one side have in common: who we are, whom we trust, what we speak. Every
 * connection is a full handshake with certificates on both sides, checked against the revocation
 * list; there are no tickets, no cache of sessions, no renegotiation.
 *
 * ssl.h, tls1.h, pem.h, x509_vfy.h of OpenSSL 3.
 */
import koffi from 'koffi';
import { KiB } from '../base/units.ts';
import { done, openssl, takeError, type Address } from './openssl.ts';

const TLS_client_method = openssl('uintptr_t TLS_client_method()');
const TLS_server_method = openssl('uintptr_t TLS_server_method()');
const SSL_CTX_new = openssl('uintptr_t SSL_CTX_new(uintptr_t method)');
const SSL_CTX_free = openssl('void SSL_CTX_free(uintptr_t ctx)');
const SSL_CTX_ctrl = openssl('long SSL_CTX_ctrl(uintptr_t ctx, int command, long number, void *p)');
const SSL_CTX_set_options = openssl(
  'uint64_t SSL_CTX_set_options(uintptr_t ctx, uint64_t options)',
);
const SSL_CTX_set_num_tickets = openssl('int SSL_CTX_set_num_tickets(uintptr_t ctx, size_t count)');
const SSL_CTX_set_ciphersuites = openssl(
  'int SSL_CTX_set_ciphersuites(uintptr_t ctx, const char *names)',
);
const SSL_CTX_set_verify = openssl(
  'void SSL_CTX_set_verify(uintptr_t ctx, int mode, void *callback)',
);
const SSL_CTX_use_certificate = openssl('int SSL_CTX_use_certificate(uintptr_t ctx, uintptr_t x)');
const SSL_CTX_use_PrivateKey = openssl('int SSL_CTX_use_PrivateKey(uintptr_t ctx, uintptr_t key)');
const SSL_CTX_check_private_key = openssl('int SSL_CTX_check_private_key(uintptr_t ctx)');
const SSL_CTX_get_cert_store = openssl('uintptr_t SSL_CTX_get_cert_store(uintptr_t ctx)');
const SSL_CTX_set_default_read_buffer_len = openssl(
  'void SSL_CTX_set_default_read_buffer_len(uintptr_t ctx, size_t length)',
);
/** 0 is success, here alone. */
const SSL_CTX_set_alpn_protos = openssl(
  'int SSL_CTX_set_alpn_protos(uintptr_t ctx, void *protocols, unsigned int length)',
);
const SelectAlpn = koffi.proto(
  'int migd_select_alpn(uintptr_t ssl, void *out, void *out_length, void *in, unsigned int in_length, void *arg)',
);
const SSL_CTX_set_alpn_select_cb = openssl(
  'void SSL_CTX_set_alpn_select_cb(uintptr_t ctx, migd_select_alpn *callback, void *arg)',
);
const BIO_new_mem_buf = openssl('uintptr_t BIO_new_mem_buf(void *bytes, int length)');
const BIO_free = openssl('int BIO_free(uintptr_t bio)');
const PEM_read_bio_X509 = openssl(
  'uintptr_t PEM_read_bio_X509(uintptr_t bio, void *x, void *callback, void *arg)',
);
const PEM_read_bio_X509_CRL = openssl(
  'uintptr_t PEM_read_bio_X509_CRL(uintptr_t bio, void *x, void *callback, void *arg)',
);
const PEM_read_bio_PrivateKey = openssl(
  'uintptr_t PEM_read_bio_PrivateKey(uintptr_t bio, void *x, void *callback, void *arg)',
);
const X509_free = openssl('void X509_free(uintptr_t x)');
const X509_CRL_free = openssl('void X509_CRL_free(uintptr_t crl)');
const EVP_PKEY_free = openssl('void EVP_PKEY_free(uintptr_t key)');
const X509_STORE_add_cert = openssl('int X509_STORE_add_cert(uintptr_t store, uintptr_t x)');
const X509_STORE_add_crl = openssl('int X509_STORE_add_crl(uintptr_t store, uintptr_t crl)');
const X509_STORE_set_flags = openssl(
  'int X509_STORE_set_flags(uintptr_t store, unsigned long flags)',
);

const SSL_CTRL_MODE = 33;
const SSL_CTRL_SET_READ_AHEAD = 41;
const SSL_CTRL_SET_SESS_CACHE_MODE = 44;
const SSL_CTRL_SET_GROUPS_LIST = 92;
const SSL_CTRL_SET_MIN_PROTO_VERSION = 123;
const SSL_CTRL_SET_MAX_PROTO_VERSION = 124;
const TLS1_3_VERSION = 0x0304;
const SSL_MODE_ENABLE_PARTIAL_WRITE = 1;
const SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 2;
const SSL_OP_NO_TICKET = 1 << 14;
const SSL_OP_CIPHER_SERVER_PREFERENCE = 1 << 22;
const SSL_OP_NO_RENEGOTIATION = 1 << 30;
const SSL_VERIFY_PEER = 1;
const SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2;
const X509_V_FLAG_CRL_CHECK = 4;
const X509_V_FLAG_CRL_CHECK_ALL = 8;
const SSL_TLSEXT_ERR_OK = 0;
const SSL_TLSEXT_ERR_ALERT_FATAL = 2;

/** What a read of the socket asks for: TLS records are 16 KiB, ours a multiple of that. */
const READ_BYTES = 256 * KiB;

export interface TlsSettings {
  readonly certPem: string;
  readonly keyPem: string;
  readonly caPem: string;
  readonly crlPem: string;
  /** TLS 1.3 cipher suites and groups, best first, separated by colons. */
  readonly ciphers: string;
  readonly groups: string;
  /** The one protocol that both sides must name. */
  readonly alpn: string;
}

export class TlsContext implements Disposable {
  /** SSL_CTX. */
  readonly address: Address;
  readonly side: 'client' | 'server';
  #selectAlpn: ReturnType<typeof koffi.register> | undefined;
  /** Read by OpenSSL as long as the context is there. */
  readonly #alpn: Uint8Array;

  /** Throws NATIVE_FAILED for what OpenSSL refuses. */
  constructor(side: 'client' | 'server', settings: TlsSettings) {
    this.side = side;
    const method = side === 'client' ? TLS_client_method() : TLS_server_method();
    this.address = done('SSL_CTX_new', Number(SSL_CTX_new(method)));
    this.#alpn = alpnList(settings.alpn);
    try {
      this.#speak(settings);
      this.#show(settings);
      this.#trust(settings);
      this.#agreeOnAlpn();
    } catch (thrown) {
      this[Symbol.dispose]();
      throw thrown;
    }
  }

  /** Connections that it was made for keep what they need of it. */
  [Symbol.dispose](): void {
    SSL_CTX_free(this.address);
    if (this.#selectAlpn !== undefined) koffi.unregister(this.#selectAlpn);
    this.#selectAlpn = undefined;
  }

  #speak({ ciphers, groups }: TlsSettings): void {
    const { address } = this;
    const control = (command: number, value: number, text: Uint8Array | null = null) =>
      Number(SSL_CTX_ctrl(address, command, value, text));
    done('minimum version', control(SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_3_VERSION));
    done('maximum version', control(SSL_CTRL_SET_MAX_PROTO_VERSION, TLS1_3_VERSION));
    done('groups', control(SSL_CTRL_SET_GROUPS_LIST, 0, Buffer.from(`${groups}\0`)));
    done('ciphers', SSL_CTX_set_ciphersuites(address, ciphers));
    const options = SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION;
    SSL_CTX_set_options(address, options);
    done('tickets', SSL_CTX_set_num_tickets(address, 0));
    control(SSL_CTRL_SET_SESS_CACHE_MODE, 0);
    control(SSL_CTRL_MODE, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    control(SSL_CTRL_SET_READ_AHEAD, 1);
    SSL_CTX_set_default_read_buffer_len(address, READ_BYTES);
  }

  #show({ certPem, keyPem }: TlsSettings): void {
    withPem(certPem, PEM_read_bio_X509, X509_free, (x509) =>
      done('certificate', SSL_CTX_use_certificate(this.address, x509)),
    );
    withPem(keyPem, PEM_read_bio_PrivateKey, EVP_PKEY_free, (key) =>
      done('key', SSL_CTX_use_PrivateKey(this.address, key)),
    );
    done('key', SSL_CTX_check_private_key(this.address));
  }

  #trust({ caPem, crlPem }: TlsSettings): void {
    const store = done('store', Number(SSL_CTX_get_cert_store(this.address)));
    withPem(caPem, PEM_read_bio_X509, X509_free, (x509) =>
      done('CA', X509_STORE_add_cert(store, x509)),
    );
    withPem(crlPem, PEM_read_bio_X509_CRL, X509_CRL_free, (crl) =>
      done('CRL', X509_STORE_add_crl(store, crl)),
    );
    done('CRL', X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL));
    SSL_CTX_set_verify(this.address, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, null);
  }

  #agreeOnAlpn(): void {
    if (this.side === 'client') {
      const refused = SSL_CTX_set_alpn_protos(this.address, this.#alpn, this.#alpn.length);
      done('ALPN', refused === 0 ? 1 : 0);
      return;
    }
    const select = (
      _ssl: number,
      out: unknown,
      outLength: unknown,
      offered: unknown,
      length: number,
    ): number => {
      const list = Buffer.from(koffi.view(offered as bigint, length));
      if (!list.equals(this.#alpn)) return SSL_TLSEXT_ERR_ALERT_FATAL;
      koffi.encode(out, 'void *', koffi.address(this.#alpn) + 1n);
      koffi.encode(outLength, 'uint8_t', this.#alpn.length - 1);
      return SSL_TLSEXT_ERR_OK;
    };
    this.#selectAlpn = koffi.register(select, koffi.pointer(SelectAlpn));
    SSL_CTX_set_alpn_select_cb(this.address, this.#selectAlpn, null);
  }
}

/** One protocol in the form of RFC 7301: its length, its name. In memory that does not move. */
function alpnList(protocol: string): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(256), 0, 1 + protocol.length);
  bytes.set([protocol.length, ...Buffer.from(protocol, 'latin1')]);
  return bytes;
}

/** Reads each PEM object of a text, one at least, uses it and frees it: what keeps it has its own reference. */
function withPem(
  pem: string,
  read: (bio: Address, x: null, callback: null, arg: null) => unknown,
  free: (object: Address) => unknown,
  use: (object: Address) => void,
): void {
  const bytes = Buffer.from(pem);
  const bio = done('BIO_new_mem_buf', Number(BIO_new_mem_buf(bytes, bytes.length)));
  const next = () => Number(read(bio, null, null, null));
  try {
    let object = done('PEM', next());
    while (object !== 0) {
      try {
        use(object);
      } finally {
        free(object);
      }
      object = next();
    }
    // The end of the text is an error to OpenSSL.
    takeError();
  } finally {
    BIO_free(bio);
    bytes.fill(0);
  }
}
