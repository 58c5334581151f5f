/** The configuration: what stands when nothing is said, and who overrides whom. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import { OUTGOING_BPS_MIN } from '../../../src/base/limits.ts';
import { resolveConfig } from '../../../src/daemon/config.ts';

const HOST = {
  role: 'source',
  name: 'alpha',
  listen: '127.0.0.1:7443',
  attestation: { allow: ['software'] },
};

void test('the two roles of the three terminals need nothing else', async (t) => {
  const source = resolveConfig({ role: 'source' }, {});
  const dest = resolveConfig({ role: 'dest' }, {});
  t.match(source, { name: 'host-a', listen: '127.0.0.1:7442', sampleGuest: true, verify: true });
  t.match(dest, { name: 'host-b', listen: '127.0.0.1:7443', sampleGuest: false, verify: false });
  for (const config of [source, dest]) {
    t.same(config.attestation.allow, ['software']);
    t.equal(config.peers[source.name], source.listen);
    t.equal(config.peers[dest.name], dest.listen);
  }
  t.not(source.stateDir, dest.stateDir);
  t.not(source.memoryDir, dest.memoryDir);
});

void test('nothing of that holds for a host with a file', async (t) => {
  const dir = t.testdir({ 'host.yaml': JSON.stringify(HOST), 'bare.yaml': '' });
  const config = resolveConfig({}, {}, path.join(dir, 'host.yaml'));
  t.match(config, { name: 'alpha', verify: false, sampleGuest: false, peers: {} });
  t.throws(() => resolveConfig({ role: 'source' }, {}, path.join(dir, 'bare.yaml')), {
    code: 'CONFIG_INVALID',
    detail: /name: .*listen: .*attestation: /,
  });
  t.throws(() => resolveConfig({ name: 'alpha', listen: '127.0.0.1:1' }, {}), {
    code: 'CONFIG_INVALID',
    detail: /attestation: /,
  });
});

void test('flags override the environment, which overrides the file', async (t) => {
  const dir = t.testdir({
    'host.yaml': JSON.stringify({ ...HOST, verify: true, stateDir: 'one' }),
  });
  const file = path.join(dir, 'host.yaml');
  t.match(resolveConfig({}, {}, file), {
    name: 'alpha',
    verify: true,
    stateDir: path.resolve('one'),
  });
  const environment = { MIGD_NAME: 'beta', MIGD_STATE_DIR: 'two' };
  t.match(resolveConfig({}, environment, file), { name: 'beta', stateDir: path.resolve('two') });
  const flags = { stateDir: 'three' };
  t.match(resolveConfig(flags, environment, file), {
    name: 'beta',
    stateDir: path.resolve('three'),
  });
});

void test('a bandwidth is enough for all that may share it', (t) => {
  const dir = t.testdir();
  const file = path.join(dir, 'host.yaml');
  const leastBps = 4 * OUTGOING_BPS_MIN;
  for (const [bandwidthBps, isEnough] of [
    [leastBps, true],
    [leastBps - 1, false],
  ] as const) {
    writeFileSync(file, JSON.stringify({ ...HOST, limits: { outgoingMax: 4, bandwidthBps } }));
    if (isEnough) t.match(resolveConfig({}, {}, file).limits, { bandwidthBps });
    else {
      t.throws(() => resolveConfig({}, {}, file), {
        code: 'CONFIG_INVALID',
        detail: /limits\.bandwidthBps: expected at least \d+ for each of outgoingMax/,
      });
    }
  }
  t.end();
});

void test('what is wrong or unknown is named with what was expected', async (t) => {
  for (const [yaml, detail] of [
    ['nmae: alpha', /host\.yaml: .*nmae/],
    ['limits: { incomingMax: many }', /limits\.incomingMax: .*number/],
    ['limits: { more: 1 }', /limits: .*more/],
    ['listen: nowhere', /listen: expected ADDRESS:PORT/],
    ['suites: [rot13]', /suites\.0: .*aes-256-gcm/],
    ['- a list', /\(top\): .*object/],
    ['a: [', /host\.yaml: /],
  ] as const) {
    const dir = t.testdir({ 'host.yaml': yaml });
    const file = path.join(dir, 'host.yaml');
    t.throws(() => resolveConfig({}, {}, file), { code: 'CONFIG_INVALID', detail }, yaml);
  }
  t.throws(() => resolveConfig({}, {}, '/nowhere/host.yaml'), {
    code: 'CONFIG_INVALID',
    detail: '/nowhere/host.yaml cannot be read',
  });
});
