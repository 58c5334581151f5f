/**
 * The source's disk fails in the very commit of the surrender: nobody can tell whether it is made. The
 * guest stands still, the operator is told so, and when the disk is well again the handover goes on.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { test } from 'tap';
import { failingDisk, skipUnlessCompiling } from '../../unit/store/failing-disk.ts';
import { scratch } from '../../unit/store/records.ts';
import { Field, VM } from './field.ts';

void test('a surrender that may be on disk is made', { skip: skipUnlessCompiling }, async (t) => {
  using place = scratch();
  const { file, env } = failingDisk(place.dir);
  await using field = await Field.start({ env: (host) => (host === 'host-a' ? env : {}) });
  const source = field.api('host-a');
  const reached = field.conductor.stopAt('before source.surrender');
  const asked = source.migrate(VM, 'host-b');
  await reached;
  writeFileSync(file, '');
  field.conductor.go();

  const { migrationId, ...result } = await asked;
  t.match(result, { outcome: 'in-doubt', code: 'IN_DOUBT', detail: /^STORE_UNCERTAIN/ });
  await t.rejects(source.call('cancel', { migrationId }), { code: 'IN_DOUBT' }, 'it is too late');
  const { guest } = await source.show(VM);
  t.not(guest?.['state'], 'running', 'it may have been handed over');

  rmSync(file);
  t.equal(await field.settled(), 'host-b');
  t.same(await field.wrongs('host-b'), []);
  t.same(await field.leftOpen(), []);
});
