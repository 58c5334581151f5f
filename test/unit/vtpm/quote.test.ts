import { createPublicKey, hash, verify } from 'node:crypto';
import { test } from 'tap';
import type { VtpmPublicKeys } from '../../../src/vtpm/command.ts';
import { SoftwareTpm } from '../../../src/vtpm/software-tpm.ts';
import { StillClock } from './fixtures.ts';

const sha256 = (...parts: readonly Uint8Array[]): Buffer =>
  hash('sha256', Buffer.concat(parts), 'buffer');

/** TPM2B of one coordinate, from the end of a SubjectPublicKeyInfo. */
function pointOf(spki: Uint8Array): Buffer {
  const size = Buffer.from([0, 32]);
  return Buffer.concat([size, spki.subarray(-64, -32), size, spki.subarray(-32)]);
}

/** The qualified name as a verifier computes it from the public keys and the profile's templates. */
function expectedSigner({ endorsement, attestation }: VtpmPublicKeys): Buffer {
  const algorithm = Buffer.from('000b', 'hex');
  const policy = '837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa';
  const ekHead = `0023000b000300b20020${policy}000600800043001000030010`;
  const akHead = '0023000b00050072000000100018000b00030010';
  const ekName = sha256(Buffer.from(ekHead, 'hex'), pointOf(endorsement));
  const akName = sha256(Buffer.from(akHead, 'hex'), pointOf(attestation));
  const parent = sha256(Buffer.from('4000000b', 'hex'), algorithm, ekName);
  return Buffer.concat([algorithm, sha256(algorithm, parent, algorithm, akName)]);
}

void test('a quote has every field of TPMS_ATTEST and verifies', async (t) => {
  const clock = new StillClock();
  using tpm = SoftwareTpm.create(clock);
  tpm.reset(true);
  tpm.extendEvent(0, Buffer.from('firmware'));
  tpm.extendEvent(23, Buffer.from('application'));
  clock.nowMs += 0x1_0000_0002;
  const nonce = Buffer.from('0123456789abcdef0123456789abcdef');
  const selection = [
    { bank: 'sha256', indexes: [0, 9, 23] },
    { bank: 'sha384', indexes: [8] },
  ] as const;
  const { attest, signature } = tpm.quote(nonce, selection);
  const keys = tpm.publicKeys();
  const key = createPublicKey({ key: Buffer.from(keys.attestation), format: 'der', type: 'spki' });
  t.equal(key.asymmetricKeyDetails?.namedCurve, 'prime256v1');
  t.ok(verify('sha256', attest, key, signature));

  const bytes = Buffer.from(attest);
  let at = 0;
  const take = (count: number): string => bytes.subarray(at, (at += count)).toString('hex');
  t.equal(take(4), 'ff544347', 'magic');
  t.equal(take(2), '8018', 'type: quote');
  t.equal(take(2), '0022');
  t.equal(take(34), expectedSigner(keys).toString('hex'), 'qualifiedSigner');
  t.equal(take(2), '0020');
  t.equal(take(32), nonce.toString('hex'), 'extraData');
  t.equal(take(8), '0000000100000002', 'clock');
  t.equal(take(4), '00000001', 'resetCount');
  t.equal(take(4), '00000000', 'restartCount');
  t.equal(take(1), '01', 'safe');
  t.equal(take(8), '0000000100000000', 'firmwareVersion');
  t.equal(take(4), '00000002', 'two banks');
  t.equal(take(6), '000b03010280', 'SHA-256: 0, 9, 23');
  t.equal(take(6), '000c03000100', 'SHA-384: 8');
  const values = tpm.readPcrs(selection).map(({ digest }) => digest);
  t.equal(take(2), '0020');
  t.equal(take(32), sha256(...values).toString('hex'), 'pcrDigest');
  t.equal(at, bytes.length, 'and nothing else');

  for (const position of [0, 50, bytes.length - 1]) {
    const altered = Buffer.from(bytes);
    altered.writeUInt8(altered.readUInt8(position) ^ 1, position);
    t.notOk(verify('sha256', altered, key, signature));
  }
});

void test('an orderly stop is told from another in the quote', async (t) => {
  using tpm = SoftwareTpm.create(new StillClock());
  tpm.reset(false);
  const { attest } = tpm.quote(new Uint8Array(0), [{ bank: 'sha256', indexes: [0] }]);
  const safeAt = 4 + 2 + 2 + 34 + 2 + 8 + 4 + 4;
  t.equal(attest[safeAt], 0);
});
