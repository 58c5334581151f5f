/** What `migctl` refuses, how it says so, and every exit status but success. */
import { test } from 'tap';
import { Cluster, smallGuest } from './cluster.ts';
import { jsonLines, migctl, startMigctl, toldError } from './migctl.ts';

void test('command lines that are none', async (t) => {
  const cluster = { dir: t.testdir({}) };
  for (const [words, detail] of [
    ['--json', 'expected a command'],
    ['frobnicate', 'Unknown argument: frobnicate'],
    ['migrat vm1', 'Did you mean migrate?'],
    ['vm', 'expected: create, list'],
    ['vm list --colour', 'Unknown argument: colour'],
    ['vm create a --memory 1GB', '1GB: expected a size such as 512M or 1G'],
    ['vm create a --rate 5', '5: expected a rate'],
    ['vm create a --fill 101%', '101%: expected at most 100%'],
    ['vm create a --workload bomb', 'Given: "bomb"'],
    ['migrate vm1', 'Missing required argument: to'],
    ['migrate vm1 --to b --mode teleport', 'Given: "teleport"'],
    ['migrate vm1 --to b --downtime-limit 5', '5: expected a duration'],
    ['migrate vm1 --to b --max-bandwidth 10', '10: expected a rate'],
    ['migrate vm1 --to b --timeout soon', 'soon: expected a duration'],
    ['migrate vm1 --to b --deadline 30', '30: expected a duration'],
    ['migrate vm1 --to b --on-timeout explode', 'Given: "explode"'],
    ['migrate vm1 --to b --suite rot13', 'Given: "rot13"'],
    ['pki issue x', 'Missing required argument: kind'],
    ['pki issue x --kind host --life long', 'long: expected a duration'],
    ['completion powershell', 'Given: "powershell"'],
    ['vm list --host :::', '--host :::: expected NAME or ADDRESS'],
    ['vm list --host 127.0.0.1:65536', 'expected NAME or ADDRESS'],
  ] as const) {
    const { exit, out, err } = await migctl(cluster, words);
    t.equal(exit, 2, words);
    t.equal(out, '');
    t.match(err, toldError('USAGE'));
    t.ok(err.includes(detail), err);
    t.equal(err.split('not understood').length, 2, 'said once');
  }
  t.match(await migctl(cluster, 'vm list'), { exit: 6, out: '', err: toldError('NO_DAEMON') });
  const unheard = await migctl(cluster, 'migrate vm1 --to host-b --json');
  t.match(unheard, { exit: 6, err: toldError('NO_DAEMON') });
  t.match(jsonLines(unheard), [{ event: 'result', outcome: 'failed', code: 'NO_DAEMON' }]);
  t.match(await migctl(cluster, '--version'), { exit: 0, out: /^\d+\.\d+\.\d+\n$/, err: '' });
  t.match(await migctl(cluster, 'migrate --help'), { exit: 0, out: /--downtime-limit/, err: '' });
});

void test('requests that a daemon refuses', async (t) => {
  await using cluster = await Cluster.start({
    'host-c': { config: { attestation: { allow: [] } } },
  });
  await cluster.a.call('vm.create', smallGuest('vm1'));
  const a = (words: string) => migctl(cluster, `--state-dir state/host-a ${words}`);
  const id = '01890000-0000-7000-8000-000000000000';
  for (const [words, exit, code] of [
    ['vm create vm1', 1, 'VM_EXISTS'],
    ['vm create a --memory 1K', 2, 'USAGE'],
    ['vm create UPPER', 2, 'USAGE'],
    ['vm check nope', 1, 'VM_UNKNOWN'],
    ['migrate nope --to host-b', 1, 'VM_UNKNOWN'],
    ['migrate vm1 --to host-z', 1, 'HOST_UNKNOWN'],
    ['migrate vm1 --to host-a', 2, 'HOST_SELF'],
    ['migrate vm1 --to host-b --on-timeout pause', 2, 'REQUEST_INVALID'],
    ['migrate vm1 --to host-b --timeout 1s --deadline 2s', 2, 'REQUEST_INVALID'],
    ['migrate vm1 --to host-b --max-bandwidth 2MB --deadline 100ms', 3, 'DEADLINE_INFEASIBLE'],
    ['migrate vm1 --to host-b --channels 99', 2, 'USAGE'],
    ['migrate vm1 --to host-b --max-bandwidth 1kB', 2, 'USAGE'],
    [`status ${id}`, 1, 'MIGRATION_UNKNOWN'],
    [`watch ${id}`, 1, 'MIGRATION_UNKNOWN'],
    [`cancel ${id}`, 1, 'MIGRATION_UNKNOWN'],
    ['cancel 7', 2, 'USAGE'],
    ['watch', 1, 'MIGRATION_UNKNOWN'],
  ] as const) {
    t.match(await a(words), { exit, out: '', err: toldError(code) }, words);
  }
  const refused = await a('migrate vm1 --to host-c');
  t.match(refused, { exit: 3, err: /^refused: vm1 is still at host-a\nmigctl: ATT_FORMAT: / });
  const again = await a('migrate vm1 --to host-c --json');
  t.match(again, { exit: 3, err: '' });
  t.match(jsonLines(again).at(-1), {
    outcome: 'refused',
    code: 'ATT_FORMAT',
    verified: false,
  });
});

void test('Ctrl-C once cancels, twice leaves; a lost daemon is no failure', async (t) => {
  await using cluster = await Cluster.start();
  await cluster.a.call('vm.create', smallGuest('vm1', { memoryBytes: 2 ** 25, fill: 1 }));
  const slowly = () =>
    startMigctl(
      cluster,
      '--state-dir state/host-a migrate vm1 --to host-b --max-bandwidth 2MB --json',
    );

  const cancelled = slowly();
  await cancelled.said(/"phase":"pre-copy"/);
  cancelled.signal('SIGINT');
  const ended = await cancelled.ended;
  t.match(ended, { exit: 4, err: 'cancelling; Ctrl-C again leaves it to the daemon\n' });
  t.match(jsonLines(ended).at(-1), { event: 'result', outcome: 'cancelled', code: 'CANCELLED' });

  const killed = slowly();
  const [, migrationId = ''] = await killed.said(/"migrationId":"([^"]+)"/);
  await killed.said(/"phase":"pre-copy"/);
  killed.signal('SIGKILL');
  t.match(await killed.ended, { exit: null, signal: 'SIGKILL' });
  const watch = startMigctl(cluster, `--state-dir state/host-a watch ${migrationId}`);
  await watch.said(/^phase pre-copy$/m);
  t.pass('who only watches may leave: the migration goes on');
  await watch[Symbol.asyncDispose]();
  const cancel = await migctl(cluster, `--state-dir state/host-a cancel ${migrationId}`);
  t.equal(cancel.exit, 0);
  await cluster.a.call('watch', { migrationId });

  // A daemon that does not get to answer: the second Ctrl-C is for just that.
  const left = slowly();
  await left.said(/"phase":"pre-copy"/);
  const daemon = cluster.get('host-a').process;
  daemon.kill('SIGSTOP');
  left.signal('SIGINT');
  await left.complained(/^cancelling; /);
  left.signal('SIGINT');
  const gone = await left.ended;
  daemon.kill('SIGCONT');
  t.match(gone, {
    exit: 5,
    err: /^how it ended only the daemon knows: `migctl status [0-9a-f-]+`$/m,
  });
  t.match(jsonLines(gone).at(-1), { event: 'result', outcome: 'in-doubt', code: null });

  await cluster.a.call('watch').catch(() => undefined);
  const lost = slowly();
  await lost.said(/"phase":"pre-copy"/);
  await cluster.stopHost('host-a', 'SIGKILL');
  const end = await lost.ended;
  t.match(end, { exit: 5, err: /^migctl: NO_DAEMON: .*^how it ended only the daemon knows: /ms });
  t.match(jsonLines(end).at(-1), { event: 'result', outcome: 'in-doubt', code: 'NO_DAEMON' });
  await cluster.startHost('host-a');
  t.match(await cluster.a.list(), [{ name: 'vm1', state: 'running' }]);
});
