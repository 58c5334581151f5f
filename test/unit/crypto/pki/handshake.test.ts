/** Who gets through a real TLS 1.3 handshake with our certificates, and what each refusal is called. */
import { randomBytes, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { test } from 'tap';
import { PkiDirectory } from '../../../../src/crypto/pki/directory.ts';
import { loadIdentity, type Identity } from '../../../../src/crypto/pki/identity.ts';
import { identityOf } from '../../../../src/crypto/pki/spiffe.ts';
import { classifyTlsError, refusalOf } from '../../../../src/crypto/pki/tls-error.ts';
import { clientOptions, CONTROL_ALPN, serverOptions } from '../../../../src/transport/tls.ts';

const ports = {
  clock: { wall: () => Date.now() },
  random: { bytes: (count: number) => randomBytes(count) },
};

/** What each side of one connection sees: `ok`, or the code of its error. */
async function shake(
  server: Identity,
  client: Identity,
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
  const socket = connect({ ...clientOptions(client, CONTROL_ALPN), host: '127.0.0.1', port });
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
  });
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
