/** A SPIFFE identity is accepted only in its one form. */
import { isDeepStrictEqual } from 'node:util';
import * as fc from 'fast-check';
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

void test('every identity is accepted as what it is, and one character more is refused', async () => {
  const name = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,62}$/);
  const identity = fc.record({
    trustDomain: fc.stringMatching(/^[a-z0-9][a-z0-9.-]{0,63}$/),
    kind: fc.constantFrom(...KINDS),
    name,
  });
  const stray = fc.constantFrom('/', '%61', 'A', ' ', '\n', '\0', ',', '?', '#', '@', ':', 'é');
  fc.assert(
    fc.property(identity, stray, fc.nat(), (given, character, at) => {
      const uri = spiffeUri(given);
      const cut = at % (uri.length + 1);
      return (
        isDeepStrictEqual(parseSpiffe(uri), { ...given }) &&
        parseSpiffe(uri.slice(0, cut) + character + uri.slice(cut)) === undefined
      );
    }),
    { numRuns: 2000 },
  );
});
