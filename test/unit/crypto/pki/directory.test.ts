/** The PKI's folder: what is there, with which permissions, and what it refuses. */
import { randomBytes } from 'node:crypto';
import { chmodSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { test } from 'tap';
import { PkiDirectory } from '../../../../src/crypto/pki/directory.ts';
import { loadIdentity } from '../../../../src/crypto/pki/identity.ts';

const ports = {
  clock: { wall: () => Date.now() },
  random: { bytes: (count: number) => randomBytes(count) },
};

void test('keys are for their owner only, nothing temporary stays', async (t) => {
  const dir = `${t.testdir()}/certs`;
  PkiDirectory.init(dir, ports).issue('host-a', 'host');
  const files = readdirSync(dir).toSorted();
  t.same(files, ['ca.crl', 'ca.crt', 'ca.key', 'host-a.crt', 'host-a.key', 'index.json']);
  for (const file of files.filter((name) => name.endsWith('.key'))) {
    t.equal(statSync(`${dir}/${file}`).mode & 0o777, 0o600, file);
  }
  t.equal(statSync(dir).mode & 0o777, 0o700);
});

void test('refusals have codes', async (t) => {
  const dir = `${t.testdir()}/certs`;
  t.throws(() => PkiDirectory.open(dir, ports), { code: 'PKI_MISSING' });
  t.throws(() => loadIdentity(dir, 'host-a'), { code: 'PKI_MISSING' });
  const pki = PkiDirectory.init(dir, ports);
  t.throws(() => PkiDirectory.init(dir, ports), { code: 'PKI_EXISTS' });
  pki.issue('host-a', 'host');
  t.throws(() => pki.issue('host-a', 'operator'), { code: 'PKI_NAME_KIND' });
  t.throws(() => pki.issue('ca', 'host'), { code: 'PKI_NAME_KIND' });
  t.throws(() => pki.revoke('host-x'), { code: 'PKI_UNKNOWN' });
  chmodSync(`${dir}/host-a.key`, 0o640);
  t.throws(() => loadIdentity(dir, 'host-a'), { code: 'PKI_MISSING' });
  chmodSync(`${dir}/host-a.key`, 0o600);
  rmSync(`${dir}/ca.crl`);
  t.throws(() => loadIdentity(dir, 'host-a'), { code: 'PKI_MISSING' });
  writeFileSync(`${dir}/index.json`, '{"issued":1}');
  t.throws(() => PkiDirectory.open(dir, ports), { code: 'PKI_MISSING' });
});

void test('a name issued again keeps its history; revoking takes all of it', async (t) => {
  const dir = `${t.testdir()}/certs`;
  PkiDirectory.init(dir, ports).issue('host-a', 'host');
  const pki = PkiDirectory.open(dir, ports);
  pki.issue('host-a', 'host');
  t.equal(pki.list().length, 2);
  t.ok(pki.revoke('host-a').every(({ revokedAt }) => revokedAt !== null));
  t.throws(() => pki.revoke('host-a'), { code: 'PKI_UNKNOWN' });
});
