/** A SPIFFE identity is accepted only in its one form. */
import fc from 'fast-check';
import { test } from 'tap';
import { KINDS, parseSpiffe, spiffeUri } from '../../src/crypto/pki/spiffe.ts';

void test('what is accepted says the same when written again', async () => {
  const near = fc
    .tuple(
      fc.constantFrom('spiffe://', 'SPIFFE://', 'spiffe:/', ''),
      fc.stringMatching(/^[a-zA-Z0-9.:/@-]{0,12}$/),
      fc.constantFrom(...KINDS, 'Host', 'root', ''),
      fc.stringMatching(/^[a-zA-Z0-9/.%-]{0,12}$/),
    )
    .map(([scheme, domain, kind, name]) => `${scheme}${domain}/${kind}/${name}`);
  fc.assert(
    fc.property(fc.oneof(near, fc.string()), (uri) => {
      const parsed = parseSpiffe(uri);
      return parsed === undefined || spiffeUri(parsed) === uri;
    }),
    { numRuns: 5000 },
  );
});
