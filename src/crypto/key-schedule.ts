/**
 * From the TLS session to the keys of the data channels (protocol.md, "Keys"):
 *
 *     PRK = HKDF-Extract(salt = nonceS ‖ nonceD, ikm = TLS exporter)
 *     key = HKDF-Expand(PRK, label ‖ channel u16 ‖ direction u8 ‖ TH, length)      SHA-384 throughout
 *
 * TH is the hash of every control message of phases A and B as sent. Each stage is a type of its
 * own: keys come only out of a session's secret, and that only out of both nonces and TH, which
 * exist after both appraisals only. So nothing can be sealed for a host that was not attested.
 */
import { assert } from '../base/assert.ts';
import { HKDF_HASH_BYTES, hkdfExpand, hkdfExtract } from './hkdf.ts';
import { Secret } from './secret.ts';

export const NONCE_BYTES = 32;
export const EXPORTER_BYTES = 48;
export const TRANSCRIPT_HASH_BYTES = 48;
export const KEY_BYTES = { enc: 32, mac: 32, join: 48 } as const;

export type Direction = 'to-destination' | 'to-source';
const DIRECTION_BYTE: { readonly [D in Direction]: number } = {
  'to-destination': 1,
  'to-source': 2,
};

export type EncryptionKey = Secret<'enc'>;
export type MacKey = Secret<'mac'>;
export type JoinKey = Secret<'join'>;

/** The keys of one channel in one direction. */
export class DirectionKeys {
  readonly enc: EncryptionKey;
  readonly mac: MacKey;
  readonly join: JoinKey;

  constructor(enc: EncryptionKey, mac: MacKey, join: JoinKey) {
    this.enc = enc;
    this.mac = mac;
    this.join = join;
  }

  /** As plain bytes for a message to another thread; list the buffers in its transfer list. */
  release(): ReleasedKeys {
    return { enc: this.enc.release(), mac: this.mac.release(), join: this.join.release() };
  }

  /** The keys again, on the other thread. */
  static receive({ enc, mac, join }: ReleasedKeys): DirectionKeys {
    return new DirectionKeys(
      new Secret('enc', enc),
      new Secret('mac', mac),
      new Secret('join', join),
    );
  }

  [Symbol.dispose](): void {
    this.enc[Symbol.dispose]();
    this.mac[Symbol.dispose]();
    this.join[Symbol.dispose]();
  }
}

/** {@link DirectionKeys} between two threads: whoever holds it owns the bytes. */
export interface ReleasedKeys {
  readonly enc: Uint8Array<ArrayBuffer>;
  readonly mac: Uint8Array<ArrayBuffer>;
  readonly join: Uint8Array<ArrayBuffer>;
}

/** What both appraisals lead to: the secret of one session, that all its keys come from. */
export class SessionSecret {
  readonly #prk: Secret<'prk'>;
  readonly #transcriptHash: Uint8Array;

  private constructor(prk: Secret<'prk'>, transcriptHash: Uint8Array) {
    this.#prk = prk;
    this.#transcriptHash = transcriptHash;
  }

  /**
   * `exporter`: 48 bytes of TLS keying material, the caller's to wipe. `nonceS`, `nonceD`: 32 bytes
   * each. `transcriptHash`: SHA-384.
   */
  static extract(input: {
    readonly exporter: Uint8Array;
    readonly nonceS: Uint8Array;
    readonly nonceD: Uint8Array;
    readonly transcriptHash: Uint8Array;
  }): SessionSecret {
    const { exporter, nonceS, nonceD, transcriptHash } = input;
    assert(exporter.length === EXPORTER_BYTES, 'an exporter of another length');
    assert(nonceS.length === NONCE_BYTES && nonceD.length === NONCE_BYTES, 'a nonce of no length');
    assert(transcriptHash.length === TRANSCRIPT_HASH_BYTES, 'a transcript hash of another length');
    const prk = hkdfExtract(Buffer.concat([nonceS, nonceD]), exporter);
    assert(prk.length === HKDF_HASH_BYTES, 'SHA-384 gives 48 bytes');
    return new SessionSecret(new Secret('prk', prk), Uint8Array.from(transcriptHash));
  }

  /** The keys of one channel and direction; every call derives them anew, the caller wipes them. */
  channelKeys(channel: number, direction: Direction): DirectionKeys {
    return new DirectionKeys(
      this.#derive('enc', channel, direction),
      this.#derive('mac', channel, direction),
      this.#derive('join', channel, direction),
    );
  }

  [Symbol.dispose](): void {
    this.#prk[Symbol.dispose]();
  }

  #derive<P extends keyof typeof KEY_BYTES>(purpose: P, channel: number, direction: Direction) {
    const info = keyInfo(purpose, channel, direction, this.#transcriptHash);
    return new Secret(purpose, hkdfExpand(this.#prk.expose(), info, KEY_BYTES[purpose]));
  }
}

/** `label ‖ channel ‖ direction ‖ TH`; the label ends with NUL, so no label is the start of another. */
export function keyInfo(
  purpose: keyof typeof KEY_BYTES,
  channel: number,
  direction: Direction,
  transcriptHash: Uint8Array,
): Uint8Array {
  assert(Number.isInteger(channel) && channel >= 0 && channel < 2 ** 16, 'a channel is a u16');
  const place = Uint8Array.of(channel >>> 8, channel & 0xff, DIRECTION_BYTE[direction]);
  return Buffer.concat([Buffer.from(`migd/1 ${purpose}\0`), place, transcriptHash]);
}
