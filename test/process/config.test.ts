/** The configuration of the real program: where it comes from, what of it is refused, and how. */
import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import type { Config } from '../../src/daemon/config.ts';
import { CODE_CACHE } from './cluster.ts';

const DAEMON = fileURLToPath(new URL('../../src/daemon/main.ts', import.meta.url));

/** Runs `migd` to its end. */
function migd(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ exit: number; out: string; err: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [DAEMON, ...args],
      { env: { PATH: process.env['PATH'], NODE_COMPILE_CACHE: CODE_CACHE, ...env } },
      (_error, out, err) => resolve({ exit: child.exitCode ?? -1, out, err }),
    );
  });
}

const whole = (directory: string) => ({
  role: 'both',
  name: 'host-f',
  listen: '127.0.0.1:7001',
  peers: { 'host-g': '[::1]:7002', 'host-h': 'host-h.example:7003' },
  certs: path.join(directory, 'certs'),
  stateDir: path.join(directory, 'state'),
  memoryDir: path.join(directory, 'memory'),
  suites: ['chacha20-poly1305+hmac-sha256'],
  forms: ['sealed'],
  encodings: ['raw'],
  engine: 'portable',
  attestation: { allow: ['software'] },
  dataPorts: { from: 7100, to: 7199 },
  limits: {
    incomingMax: 2,
    outgoingMax: 3,
    perPeerMax: 1,
    queueMax: 9,
    busyMs: 0,
    bandwidthBps: 125e6,
    memoryBytesMax: 1e9,
    peerSilenceMs: 5000,
    reconnectMs: 0,
  },
  metrics: '127.0.0.1:7004',
  verify: true,
  autoConverge: true,
  sampleGuest: false,
  logLevel: 'info',
  pretty: false,
});

void test('a configuration that is right', async (t) => {
  const dir = t.testdir();
  const file = path.join(dir, 'migd.yaml');
  writeFileSync(file, JSON.stringify(whole(dir)));

  const checked = await migd(['--config', file, '--check']);
  t.equal(checked.exit, 0, checked.err);
  t.same(JSON.parse(checked.out), whole(dir), 'every key is taken as it stands');
  t.notOk(existsSync(path.join(dir, 'state')), 'nothing was made by looking');

  const env = { MIGD_LOG_LEVEL: 'warn', MIGD_NAME: 'host-e', MIGD_CERTS: '/from/env' };
  const flags = ['--log-level', 'error', '--peer', 'host-i=127.0.0.1:7005', '--name', 'host-i'];
  const layered = await migd(['--config', file, '--check', ...flags], env);
  t.match(
    JSON.parse(layered.out),
    { logLevel: 'error', name: 'host-i', certs: '/from/env', listen: '127.0.0.1:7001' },
    'flags over environment over file',
  );
  t.same((JSON.parse(layered.out) as Config).peers, { 'host-i': '127.0.0.1:7005' });

  const sandbox = await migd(['--role', 'dest', '--check']);
  t.match(JSON.parse(sandbox.out), {
    name: 'host-b',
    listen: '127.0.0.1:7443',
    attestation: { allow: ['software'] },
  });
  writeFileSync(file, 'name: host-f\nlisten: 127.0.0.1:7001\nattestation: { allow: [] }\n');
  const short = await migd(['--config', file, '--check']);
  t.match(JSON.parse(short.out), {
    role: 'both',
    attestation: { allow: [] },
    limits: { incomingMax: 8, outgoingMax: 4, perPeerMax: 2, queueMax: 100, busyMs: 300_000 },
  });
});

void test('a configuration that is not', async (t) => {
  const dir = t.testdir();
  const given = whole(dir);
  const changed = (change: object) => JSON.stringify({ ...given, ...change });
  const { name: _, attestation: _a, ...nameless } = given;
  // Everything that is wrong is said at once: one program for many cases.
  const cases: readonly (readonly [string, readonly string[]])[] = [
    [
      changed({
        colour: 'red',
        role: 'king',
        name: 'Host A',
        listen: 7001,
        peers: { 'host-g': 'x', '../x': '127.0.0.1:1' },
        suites: ['rot13'],
        forms: ['carrier-pigeon'],
        encodings: ['zero'],
        engine: 'steam',
        attestation: { allow: ['hope'] },
        dataPorts: { from: 0, to: 8 },
        limits: { incomingMax: '8', peerSilenceMs: 199, reconnectMs: 3_600_001, coming: 1 },
        sampleGuest: 'yes',
      }),
      [
        '(top): Unrecognized key: "colour"',
        'role: Invalid option: expected one of "source"|"dest"|"both"',
        'name: expected a name: a-z 0-9 -',
        'listen: Invalid input: expected string, received number',
        'peers.host-g: expected ADDRESS:PORT',
        'peers.../x: ',
        'suites.0: Invalid option: expected one of "aes-256-gcm',
        'forms.0: Invalid option: expected one of "tls"|"sealed"',
        'encodings: expected raw among them',
        'engine: Invalid option: expected one of "auto"',
        'attestation.allow.0: Invalid input: expected',
        'dataPorts.from: Too small: expected number to be >=1',
        'limits.incomingMax: Invalid input: expected number, received string',
        'limits.peerSilenceMs: Too small: expected number to be >=200',
        'limits.reconnectMs: Too big: expected number to be <=3600000',
        'limits: Unrecognized key: "coming"',
        'sampleGuest: Invalid input: expected boolean',
      ],
    ],
    [
      changed({ listen: 'localhost', metrics: '127.0.0.1:70000', dataPorts: { from: 9, to: 8 } }),
      [
        'listen: expected ADDRESS:PORT',
        'metrics: expected ADDRESS:PORT',
        'dataPorts: expected from ≤ to',
      ],
    ],
    [changed({ suites: [] }), ['suites: Too small']],
    [
      JSON.stringify(nameless),
      [
        'name: Invalid input: expected string, received undefined',
        'attestation: Invalid input: expected object, received undefined',
      ],
    ],
    ['name: [', ['migd.yaml: ']],
    ['name: a\nname: b', ['migd.yaml: Map keys must be unique']],
    ['- a list', ['(top): Invalid input: expected object']],
  ];
  const answers = await Promise.all(
    cases.map(([text], i) => {
      const file = path.join(dir, `${i}-migd.yaml`);
      writeFileSync(file, text);
      return migd(['--config', file, '--check']);
    }),
  );
  for (const [i, [, expected]] of cases.entries()) {
    const { exit, out, err } = answers[i] ?? { exit: -1, out: '', err: '' };
    t.equal(exit, 2, err);
    t.equal(out, '');
    t.match(err, /^migd: CONFIG_INVALID: /);
    for (const said of expected) t.ok(err.includes(said), said);
  }
});

void test('flags and environment that are wrong', async (t) => {
  const role = ['--role', 'dest'];
  const cases: readonly (readonly [readonly string[], Record<string, string>, string])[] = [
    [['--colour', 'red'], {}, 'USAGE'],
    [['--role', 'king'], {}, 'USAGE'],
    [[...role, 'stray'], {}, 'USAGE'],
    [[...role, '--peer', 'host-b'], {}, 'USAGE'],
    [[...role, '--listen', 'here'], {}, 'listen: expected ADDRESS:PORT'],
    [[], { MIGD_ROLE: 'king' }, 'role: Invalid option'],
    [role, { MIGD_METRICS: '9100' }, 'metrics: expected ADDRESS:PORT'],
    [['--config', '/does/not/exist.yaml'], {}, 'exist.yaml cannot be read'],
    [[], {}, 'name: Invalid input'],
  ];
  const answers = await Promise.all(cases.map(([args, env]) => migd([...args, '--check'], env)));
  for (const [i, [args, env, expected]] of cases.entries()) {
    const { exit, err } = answers[i] ?? { exit: -1, err: '' };
    t.equal(exit, 2, `${args.join(' ')} ${JSON.stringify(env)}`);
    t.ok(err.includes(expected), `${expected} in ${err}`);
  }
});
