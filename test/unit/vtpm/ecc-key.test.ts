import { createPublicKey, verify } from 'node:crypto';
import { test } from 'tap';
import { EccKey } from '../../../src/vtpm/ecc-key.ts';

void test('a known scalar gives the known public point', async (t) => {
  // RFC 6979 A.2.5: the P-256 key pair of its test vectors.
  const scalar = 'c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721';
  using key = EccKey.fromScalar(Buffer.from(scalar, 'hex'));
  const { x, y } = key.publicPoint;
  t.equal(
    Buffer.from(x).toString('hex'),
    '60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6',
  );
  t.equal(
    Buffer.from(y).toString('hex'),
    '7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299',
  );
});

void test('a generated key comes back from its scalar, and is wiped', async (t) => {
  const key = EccKey.generate();
  using again = EccKey.fromScalar(Buffer.from(key.scalar));
  t.same(again.publicKey, key.publicKey);
  const message = Buffer.from('message');
  const publicKey = createPublicKey({
    key: Buffer.from(key.publicKey),
    format: 'der',
    type: 'spki',
  });
  t.ok(verify('sha256', message, publicKey, again.sign(message)));
  const { scalar } = key;
  key[Symbol.dispose]();
  t.ok(scalar.every((byte) => byte === 0));
  t.notOk(
    again.scalar.every((byte) => byte === 0),
    'the other has its own copy',
  );
});
