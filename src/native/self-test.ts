/**
 * Whether the native engine can be used here: this Node exports what is called, and OpenSSL makes of a
 * record what node:crypto makes of it, for every suite.
 */
import { Opener } from '../crypto/opener.ts';
import { SessionSecret } from '../crypto/key-schedule.ts';
import { portableCiphers } from '../crypto/record-cipher.ts';
import { Sealer } from '../crypto/sealer.ts';
import { SUITES, type Suite } from '../crypto/suites.ts';
import { MigError } from '../protocol/error.ts';
import { RECORD_HEADER_BYTES } from '../protocol/record.ts';
import { nativeCiphers } from './record-cipher.ts';

/** Why it cannot be used, in a few words; undefined when it can. */
export function whyNotNative(): string | undefined {
  try {
    for (const suite of Object.values(SUITES)) checkSuite(suite);
    return undefined;
  } catch (thrown) {
    return MigError.from(thrown, 'NATIVE_FAILED').message;
  }
}

/** No secret of anybody: the keys are of zeros. */
const nothing = (): SessionSecret =>
  SessionSecret.extract({
    exporter: new Uint8Array(48),
    nonceS: new Uint8Array(32),
    nonceD: new Uint8Array(32),
    transcriptHash: new Uint8Array(48),
  });

function checkSuite(suite: Suite): void {
  using secret = nothing();
  const channel = 1;
  const options = () => ({ suite, channel, keys: secret.channelKeys(channel, 'to-destination') });
  using portable = new Sealer({ ...options(), ciphers: portableCiphers });
  using native = new Sealer({ ...options(), ciphers: nativeCiphers });
  using opener = new Opener({ ...options(), ciphers: nativeCiphers });
  const pieces = [Buffer.from('self-'), Buffer.from('test')];
  const record = Buffer.concat(native.seal('pages', pieces));
  if (!record.equals(Buffer.concat(portable.seal('pages', pieces)))) {
    throw new MigError('NATIVE_FAILED', `another record of ${suite.cipher}`);
  }
  const { length } = opener.begin(record.subarray(0, RECORD_HEADER_BYTES));
  const end = RECORD_HEADER_BYTES + opener.bodyBytes(length);
  const plaintext = opener.update(record.subarray(RECORD_HEADER_BYTES, end));
  if (Buffer.from(plaintext).toString() !== 'self-test') {
    throw new MigError('NATIVE_FAILED', `another plaintext of ${suite.cipher}`);
  }
  opener.finish(record.subarray(end));
}
