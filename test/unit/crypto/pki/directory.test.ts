/** The PKI's folder: what is there, with which permissions, and what it refuses. */
import { randomBytes, X509Certificate } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
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
  for (const name of ['ca', '../evil', 'Host', 'a b', '', 'a'.repeat(64)]) {
    t.throws(() => pki.issue(name, 'host'), { code: 'PKI_NAME_KIND' }, `name "${name}"`);
  }
  t.notOk(existsSync(`${dir}/../evil.key`));
  t.ok(pki.issue('a'.repeat(63), 'host'));
  t.throws(() => PkiDirectory.init(`${dir}-2`, ports, 'No/Domain'), { code: 'USAGE' });
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
  t.same(pki.revoke('host-a'), pki.list(), 'once more is harmless');
});

void test('a CA whose key is kept elsewhere is not replaced by a new one', async (t) => {
  const dir = `${t.testdir()}/certs`;
  PkiDirectory.init(dir, ports);
  const ca = readFileSync(`${dir}/ca.crt`);
  renameSync(`${dir}/ca.key`, `${dir}/../offline.key`);
  t.throws(() => PkiDirectory.init(dir, ports), { code: 'PKI_EXISTS' });
  t.same(readFileSync(`${dir}/ca.crt`), ca);
  t.throws(() => PkiDirectory.open(dir, ports).issue('host-a', 'host'), { code: 'PKI_MISSING' });
  t.same(PkiDirectory.open(dir, ports).list(), []);
});

const copy = (from: string) => (path: string) => copyFileSync(from, path);

void test('what does not belong together is not loaded', async (t) => {
  const root = t.testdir();
  const dir = `${root}/certs`;
  const pki = PkiDirectory.init(dir, ports);
  pki.issue('host-a', 'host');
  pki.issue('host-b', 'host');
  PkiDirectory.init(`${root}/foreign`, ports).issue('host-a', 'host');
  const spoilt = (file: string, spoil: (path: string) => void, code: string, what: string) => {
    const path = `${dir}/${file}`;
    const good = readFileSync(path);
    spoil(path);
    t.throws(() => loadIdentity(dir, 'host-a'), { code }, `${file} ${what}`);
    writeFileSync(path, good);
  };
  for (const file of ['host-a.crt', 'host-a.key', 'ca.crt', 'ca.crl']) {
    spoilt(file, (path) => writeFileSync(path, ''), 'PKI_MISSING', 'empty');
    spoilt(file, (path) => writeFileSync(path, 'no PEM'), 'PKI_MISSING', 'damaged');
  }
  spoilt('host-a.key', copy(`${dir}/host-b.key`), 'PKI_MISSING', 'of another host');
  spoilt('host-a.crt', copy(`${dir}/host-b.crt`), 'CERT_INVALID', 'of another host');
  spoilt('ca.crt', copy(`${root}/foreign/ca.crt`), 'CERT_INVALID', 'of another CA');
  t.equal(loadIdentity(dir, 'host-a').name, 'host-a');
});

void test('two that hold the same folder lose nothing of each other', async (t) => {
  const dir = `${t.testdir()}/certs`;
  const first = PkiDirectory.init(dir, ports);
  const second = PkiDirectory.open(dir, ports);
  first.issue('host-a', 'host');
  second.issue('host-b', 'host');
  t.same(
    first.list().map(({ name }) => name),
    ['host-a', 'host-b'],
  );
  writeFileSync(`${dir}/index.lock`, '');
  t.throws(() => first.issue('host-c', 'host'), { code: 'PKI_BUSY' });
  t.throws(() => first.revoke('host-a'), { code: 'PKI_BUSY' });
  rmSync(`${dir}/index.lock`);
  t.ok(first.issue('host-c', 'host'));
});

void test('a revocation that was cut off is made good by doing it again', async (t) => {
  const dir = `${t.testdir()}/certs`;
  const pki = PkiDirectory.init(dir, ports);
  pki.issue('host-a', 'host');
  // Something in the way of the list, but not of the index.
  rmSync(`${dir}/ca.crl`);
  mkdirSync(`${dir}/ca.crl`);
  t.throws(() => pki.revoke('host-a'), { code: 'STORE_FAILED' });
  rmSync(`${dir}/ca.crl`, { recursive: true });
  t.equal(pki.revoke('host-a').length, 1);
  t.ok(statSync(`${dir}/ca.crl`).isFile());
  t.same(readdirSync(dir).toSorted(), [
    'ca.crl',
    'ca.crt',
    'ca.key',
    'host-a.crt',
    'host-a.key',
    'index.json',
  ]);
});

void test('no certificate comes to be that the index does not know', async (t) => {
  const dir = `${t.testdir()}/certs`;
  const pki = PkiDirectory.init(dir, ports);
  mkdirSync(`${dir}/host-a.key`);
  t.throws(() => pki.issue('host-a', 'host'), { code: 'STORE_FAILED' });
  t.notOk(existsSync(`${dir}/host-a.crt`));
  t.equal(pki.list().length, 1);
  rmSync(`${dir}/host-a.key`, { recursive: true });
  writeFileSync(`${dir}/host-a.key.new`, 'left by a killed writer');
  pki.issue('host-a', 'host');
  t.equal(loadIdentity(dir, 'host-a').name, 'host-a');
});

void test('certificates say what they are for, and until when', async (t) => {
  const dir = `${t.testdir()}/certs`;
  const now = Date.UTC(2049, 11, 31, 12);
  const pki = PkiDirectory.init(dir, { ...ports, clock: { wall: () => now } }, 'cloud.example');
  const [clientAuth, serverAuth] = ['1.3.6.1.5.5.7.3.2', '1.3.6.1.5.5.7.3.1'];
  const uses = { host: [serverAuth, clientAuth], operator: [clientAuth], owner: [clientAuth] };
  const days = { host: 90, operator: 30, owner: 30 };
  const ca = new X509Certificate(readFileSync(`${dir}/ca.crt`));
  t.ok(ca.ca);
  t.equal(ca.subjectAltName, 'URI:spiffe://cloud.example');
  for (const kind of ['host', 'operator', 'owner'] as const) {
    const { serial, notAfter } = pki.issue(kind, kind);
    const made = new X509Certificate(readFileSync(`${dir}/${kind}.crt`));
    t.notOk(made.ca);
    t.same(made.keyUsage, uses[kind]);
    t.equal(made.serialNumber, serial.toUpperCase());
    t.equal(made.subjectAltName, `URI:spiffe://cloud.example/${kind}/${kind}`);
    // Either side of 2050, where the form of dates changes.
    t.equal(made.validFromDate.getTime(), now - 300_000);
    t.equal(made.validToDate.getTime(), now + days[kind] * 86_400_000);
    t.equal(made.validToDate.toISOString(), notAfter);
    t.ok(made.verify(ca.publicKey));
  }
});
