/** Who gets through a real TLS 1.3 handshake with our certificates, and what each refusal is called. */
import { generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { connect, createServer, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { test } from 'tap';
import { PkiDirectory } from '../../../../src/crypto/pki/directory.ts';
import { loadIdentity, type Identity } from '../../../../src/crypto/pki/identity.ts';
import { identityOf } from '../../../../src/crypto/pki/spiffe.ts';
import { classifyTlsError, refusalOf } from '../../../../src/crypto/pki/tls-error.ts';
import { makeCertificate } from '../../../../src/crypto/pki/x509.ts';
import { clientOptions, CONTROL_ALPN, serverOptions } from '../../../../src/transport/tls.ts';

const ports = {
  clock: { wall: () => Date.now() },
  random: { bytes: (count: number) => randomBytes(count) },
};

/** What each side of one connection sees: `ok`, or the code of its error. */
async function shake(
  server: Identity,
  client: Identity,
  clientOverrides: ConnectionOptions = {},
): Promise<{ server: string; client: string }> {
  // As the control listener does it: let the handshake end, then judge, so that there is a reason.
  const listener = createServer({
    ...serverOptions(server, CONTROL_ALPN),
    rejectUnauthorized: false,
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const served = new Promise<string>((resolve) => {
    listener.on('secureConnection', (socket: TLSSocket) => {
      socket.on('error', () => undefined);
      const verdict = refusalOf(socket) ?? 'ok';
      socket.end(verdict);
      resolve(verdict);
    });
    listener.on('tlsClientError', (error) => resolve(classifyTlsError(error)));
  });
  const socket = connect({
    ...clientOptions(client, CONTROL_ALPN),
    ...clientOverrides,
    host: '127.0.0.1',
    port,
  });
  const connected = new Promise<string>((resolve) => {
    socket.on('data', (verdict: Buffer) => resolve(verdict.toString()));
    socket.on('error', (error) => resolve(classifyTlsError(error)));
    socket.on('close', () => resolve('closed'));
  });
  const result = { server: await served, client: await connected };
  socket.destroy();
  listener.close();
  return result;
}

void test('handshakes', async (t) => {
  const dir = t.testdir();
  const pki = PkiDirectory.init(`${dir}/certs`, ports);
  for (const name of ['host-a', 'host-b', 'revoked']) pki.issue(name, 'host');
  pki.issue('expired', 'host', -1000);
  pki.issue('operator', 'operator');
  pki.issue('owner', 'owner');
  pki.revoke('revoked');
  const foreign = PkiDirectory.init(`${dir}/foreign`, ports);
  foreign.issue('host-a', 'host');
  const get = (name: string) => loadIdentity(`${dir}/certs`, name);
  const good = get('host-a');
  const stranger = loadIdentity(`${dir}/foreign`, 'host-a');

  await t.test('two good hosts, and an operator as a client', async (t) => {
    t.same(await shake(good, get('host-b')), { server: 'ok', client: 'ok' });
    t.same(await shake(good, get('operator')), { server: 'ok', client: 'ok' });
  });
  await t.test('a bad client is refused by name of what is wrong, and told so', async (t) => {
    t.same(await shake(good, get('revoked')), { server: 'CERT_REVOKED', client: 'CERT_REVOKED' });
    t.same(await shake(good, get('expired')), { server: 'CERT_EXPIRED', client: 'CERT_EXPIRED' });
    t.same(
      (await shake(good, { ...stranger, caPem: good.caPem, crlPem: good.crlPem })).server,
      'CERT_INVALID',
    );
  });
  await t.test('a bad server is refused', async (t) => {
    t.same((await shake(get('revoked'), good)).client, 'CERT_REVOKED');
    t.same((await shake(get('expired'), good)).client, 'CERT_EXPIRED');
    t.same(
      (await shake({ ...stranger, caPem: good.caPem, crlPem: good.crlPem }, good)).client,
      'CERT_INVALID',
    );
    t.same((await shake(get('operator'), good)).client, 'CERT_INVALID', 'extended key usage');
    t.same((await shake(get('owner'), good)).client, 'CERT_INVALID', 'extended key usage');
  });
  await t.test('the CA itself is no peer', async (t) => {
    const keyPem = readFileSync(`${dir}/certs/ca.key`, 'utf8');
    const ca = { ...good, certPem: good.caPem, keyPem };
    t.same((await shake(good, ca)).server, 'CERT_INVALID');
    t.same((await shake(ca, good)).client, 'CERT_INVALID');
  });
  await t.test('a revocation list of another CA lets nobody in', async (t) => {
    const astray = { ...good, crlPem: stranger.crlPem };
    t.same((await shake(astray, get('host-b'))).server, 'CERT_INVALID');
    t.same((await shake(get('host-b'), astray)).client, 'CERT_INVALID');
  });
  await t.test('a client without a certificate', async (t) => {
    const { server } = await shake(good, good, { cert: undefined, key: undefined });
    t.same(server, 'CERT_INVALID');
  });
});

void test('time', async (t) => {
  const dir = `${t.testdir()}/certs`;
  const at = (days: number) => ({
    ...ports,
    clock: { wall: () => Date.now() + days * 86_400_000 },
  });
  // A CA of two years ago, of which nothing was issued or revoked since.
  PkiDirectory.init(dir, at(-800)).issue('old', 'host', 9000 * 86_400_000);
  const stale = loadIdentity(dir, 'old');
  t.same((await shake(stale, stale)).client, 'CERT_EXPIRED', 'the list is too old');
  PkiDirectory.open(dir, ports).issue('new', 'host');
  const fresh = loadIdentity(dir, 'new');
  t.same(await shake(fresh, fresh), { server: 'ok', client: 'ok' }, 'issuing renews the list');

  PkiDirectory.open(dir, at(1)).issue('future', 'host');
  const future = { ...loadIdentity(dir, 'future'), crlPem: fresh.crlPem };
  t.same((await shake(fresh, future)).server, 'CERT_EXPIRED', 'not valid yet');
  const { crlPem } = loadIdentity(dir, 'new');
  t.same((await shake({ ...fresh, crlPem }, fresh)).server, 'CERT_EXPIRED', 'a list from tomorrow');
});

void test('a certificate names exactly one identity', async (t) => {
  const pki = PkiDirectory.init(`${t.testdir()}/certs`, ports, 'cloud.example');
  pki.issue('web1', 'owner');
  const { certPem } = loadIdentity(`${t.testdirName}/certs`, 'web1');
  const { trustDomain, kind, name, fingerprint256 } = identityOf(new X509Certificate(certPem));
  t.same(
    { trustDomain, kind, name },
    { trustDomain: 'cloud.example', kind: 'owner', name: 'web1' },
  );
  t.equal(fingerprint256.length, 32);
});

void test('a name that is not plainly one SPIFFE identity is none', async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const subject = { organization: 'migd.local', commonName: 'x' };
  const named = (uri: string) => {
    const certificate = makeCertificate({
      subject,
      issuer: subject,
      serial: '40',
      notBefore: new Date(0),
      notAfter: new Date(0),
      publicKey,
      issuerKey: privateKey,
      uri,
      use: 'host',
    });
    return () => identityOf(new X509Certificate(certificate));
  };
  t.same(named('spiffe://migd.local/host/x')().name, 'x');
  for (const uri of [
    '',
    'spiffe://migd.local',
    'spiffe://migd.local/host/x, URI:spiffe://migd.local/host/y',
    'spiffe://migd.local/host/x\0y',
    'spiffe://migd.local/host/x\n',
    'spiffe://migd.local/host/"x"',
    'spiffe://migd.local/root/x',
    'https://migd.local/host/x',
  ]) {
    t.throws(named(uri), { code: 'CERT_INVALID' }, JSON.stringify(uri));
  }
});
