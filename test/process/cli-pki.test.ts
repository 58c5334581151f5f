/** `migctl pki`: works on files alone, tells people and programs the same. */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { test } from 'tap';
import { jsonLines, migctl, toldError } from './migctl.ts';

const DAY_MS = 86_400_000;

interface Issued {
  readonly name: string;
  readonly notAfter: string;
}

void test('init, issue, revoke, list', async (t) => {
  const here = { dir: t.testdir({}) };
  t.match(await migctl(here, 'pki list'), { exit: 2, out: '', err: toldError('PKI_MISSING') });
  const made = await migctl(here, 'pki init --trust-domain example.test');
  t.match(made, { exit: 0, out: /^CA made in certs\/\nNAME +KIND +STATE +VALID UNTIL/, err: '' });
  t.match(await migctl(here, 'pki init'), { exit: 2, err: toldError('PKI_EXISTS') });
  for (const file of readdirSync(path.join(here.dir, 'certs'))) {
    const { mode } = statSync(path.join(here.dir, 'certs', file));
    if (file.endsWith('.key')) t.equal(mode & 0o777, 0o600, file);
  }

  const issued = await migctl(here, 'pki issue host-c --kind host --life 48h --json');
  const [one] = jsonLines(issued) as [Issued];
  t.match(one, { name: 'host-c', kind: 'host', serial: String, revokedAt: null });
  t.ok(Math.abs(Date.parse(one.notAfter) - Date.now() - 2 * DAY_MS) < DAY_MS);
  t.match(await migctl(here, 'pki issue web --kind owner'), {
    exit: 0,
    out: /^web +owner +valid/m,
  });
  t.match(await migctl(here, 'pki issue UPPER --kind host'), {
    exit: 2,
    err: toldError('PKI_NAME_KIND'),
  });
  t.match(await migctl(here, 'pki revoke host-c'), { exit: 0, out: /^host-c +host +revoked/m });
  t.match(await migctl(here, 'pki revoke nobody'), { exit: 2, err: toldError('PKI_UNKNOWN') });

  t.match(await migctl(here, 'pki list'), {
    exit: 0,
    out: /^host-a +host +valid .*^host-c +host +revoked /ms,
  });
  t.match(jsonLines(await migctl(here, 'pki list --json'))[0], [
    { name: 'host-a', kind: 'host', revokedAt: null },
    { name: 'host-b', kind: 'host' },
    { name: 'operator', kind: 'operator' },
    { name: 'host-c', revokedAt: String },
    { name: 'web', kind: 'owner' },
  ]);
  t.match(await migctl(here, 'pki init --certs other'), { exit: 0, out: /^CA made in other\/\n/ });
  t.match(await migctl(here, 'pki list', { MIGD_CERTS: 'other' }), { exit: 0, out: /^operator /m });
});
