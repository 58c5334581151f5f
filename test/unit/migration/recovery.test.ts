/** What a daemon that starts owes to what it finds on record. */
import { test } from 'tap';
import { dutiesOf } from '../../../src/migration/recovery.ts';
import { migrationRecord, vmRecord } from '../store/records.ts';

const about = { vmId: vmRecord().vmId, epoch: 1, transcriptDigest: new Uint8Array(48) };
const incoming = { direction: 'incoming', state: 'active' } as const;

void test('first the guests that stand still, then the ends, then what is open', async (t) => {
  const vm = vmRecord();
  const started = migrationRecord(1, { state: 'started' });
  const surrendered = migrationRecord(2, { state: 'surrendered', handover: about });
  const duties = dutiesOf([vm], [surrendered, started], () => true);
  t.same(duties, [
    { kind: 'resume', vm },
    { kind: 'abort', migration: started },
    { kind: 'handOver', migration: surrendered },
  ]);
});

void test('who came here is owed a farewell, until it was filed', async (t) => {
  const owed = migrationRecord(1, { ...incoming, handover: about });
  const facts = { stateDigest: new Uint8Array(48), filesDestroyed: 2, bytesOverwritten: 10 };
  const none = new Uint8Array(0);
  const filed = { ...owed, deletion: { facts, statement: none, signature: none } };
  const ofVersion1 = migrationRecord(2, incoming);
  t.same(
    dutiesOf([], [owed, filed, ofVersion1], () => false),
    [{ kind: 'handOver', migration: owed }],
  );
});
