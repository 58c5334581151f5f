/**
 * Certificates and revocation lists (RFC 5280) with Ed25519 keys (RFC 8410). The structures are
 * node-forge's ASN.1; keys and signatures are node:crypto's, as forge signs with RSA only.
 */
import { createHash, createPublicKey, sign, type KeyObject } from 'node:crypto';
import forge from 'node-forge';

const { asn1, pki, util } = forge;
type Asn1 = forge.asn1.Asn1;
const { Class, Type } = asn1;

/** id-Ed25519 (RFC 8410 §3); its AlgorithmIdentifier has no parameters. */
const ED25519 = '1.3.101.112';

const sequence = (...items: Asn1[]): Asn1 =>
  asn1.create(Class.UNIVERSAL, Type.SEQUENCE, true, items);
const oid = (dotted: string): Asn1 =>
  asn1.create(Class.UNIVERSAL, Type.OID, false, asn1.oidToDer(dotted).getBytes());
const bits = (body: Buffer): Asn1 =>
  asn1.create(Class.UNIVERSAL, Type.BITSTRING, false, `\0${body.toString('latin1')}`);
const integer = (hex: string): Asn1 =>
  asn1.create(Class.UNIVERSAL, Type.INTEGER, false, util.hexToBytes(hex));
// In a class of its own a "type" is just the tag's number: the only one we need is [0].
const TAG_0 = Type.NONE;
const explicit0 = (item: Asn1): Asn1 => asn1.create(Class.CONTEXT_SPECIFIC, TAG_0, true, [item]);
/** RFC 5280 §4.1.2.5: UTCTime, with its two digits for the year, until 2049, then GeneralizedTime. */
const time = (at: Date): Asn1 =>
  at.getUTCFullYear() < 2050
    ? asn1.create(Class.UNIVERSAL, Type.UTCTIME, false, asn1.dateToUtcTime(at))
    : asn1.create(Class.UNIVERSAL, Type.GENERALIZEDTIME, false, asn1.dateToGeneralizedTime(at));

const algorithm = (): Asn1 => sequence(oid(ED25519));
const toDer = (item: Asn1): Buffer => Buffer.from(asn1.toDer(item).getBytes(), 'latin1');
const fromDer = (der: Buffer): Asn1 => asn1.fromDer(der.toString('latin1'));

const pem = (label: string, der: Buffer): string =>
  `-----BEGIN ${label}-----\n${der.toString('base64').replaceAll(/(.{64})(?=.)/g, '$1\n')}\n-----END ${label}-----\n`;

interface Name {
  readonly organization: string;
  readonly commonName: string;
}

const distinguishedName = ({ organization, commonName }: Name): Asn1 => {
  const holder = pki.createCertificate();
  holder.setSubject([
    { name: 'organizationName', value: organization },
    { name: 'commonName', value: commonName },
  ]);
  return pki.distinguishedNameToAsn1(holder.subject);
};

const publicKeyDer = (key: KeyObject): Buffer =>
  (key.type === 'private' ? createPublicKey(key) : key).export({ type: 'spki', format: 'der' });

/** SHA-1 of the public key's bits (RFC 5280 §4.2.1.2, method 1): an identifier, not a protection. */
const keyIdentifier = (key: KeyObject): string =>
  createHash('sha1').update(publicKeyDer(key).subarray(-32)).digest().toString('latin1');

// Given whole: forge would make it of an RSA key.
const subjectKeyIdentifier = (key: KeyObject): Asn1 =>
  asn1.create(Class.UNIVERSAL, Type.OCTETSTRING, false, keyIdentifier(key));

/** Signs `body` and puts it together with its signature. */
const signed = (body: Asn1, key: KeyObject): Buffer =>
  toDer(sequence(body, algorithm(), bits(sign(null, toDer(body), key))));

export interface CertificateRequest {
  readonly subject: Name;
  readonly issuer: Name;
  /** Hex, at most 16 bytes, positive. */
  readonly serial: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly publicKey: KeyObject;
  readonly issuerKey: KeyObject;
  readonly uri: string;
  readonly use: 'ca' | 'host' | 'client';
}

function extensions(request: CertificateRequest): object[] {
  const { use, uri, publicKey, issuerKey } = request;
  const keyIdentifiers = [
    { name: 'subjectAltName', altNames: [{ type: 6, value: uri }] },
    { id: '2.5.29.14', value: subjectKeyIdentifier(publicKey) },
    { name: 'authorityKeyIdentifier', keyIdentifier: keyIdentifier(issuerKey) },
  ];
  if (use === 'ca') {
    return [
      { name: 'basicConstraints', critical: true, cA: true, pathLenConstraint: 0 },
      { name: 'keyUsage', critical: true, keyCertSign: true, cRLSign: true },
      ...keyIdentifiers,
    ];
  }
  return [
    { name: 'basicConstraints', critical: true, cA: false },
    { name: 'keyUsage', critical: true, digitalSignature: true },
    { name: 'extKeyUsage', serverAuth: use === 'host', clientAuth: true },
    ...keyIdentifiers,
  ];
}

/** A certificate as PEM. */
export function makeCertificate(request: CertificateRequest): string {
  const holder = pki.createCertificate();
  holder.setExtensions(extensions(request));
  const body = sequence(
    explicit0(integer('02')),
    integer(request.serial),
    algorithm(),
    distinguishedName(request.issuer),
    sequence(time(request.notBefore), time(request.notAfter)),
    distinguishedName(request.subject),
    fromDer(publicKeyDer(request.publicKey)),
    explicitExtensions(holder.extensions),
  );
  return pem('CERTIFICATE', signed(body, request.issuerKey));
}

// forge wraps the list of extensions in its [3] tag itself.
const explicitExtensions = (list: object[]): Asn1 =>
  (
    pki as unknown as { certificateExtensionsToAsn1(list: object[]): Asn1 }
  ).certificateExtensionsToAsn1(list);

/** A revocation list (v2) as PEM. `number` counts the lists of this CA. */
export function makeRevocationList(request: {
  readonly issuer: Name;
  readonly issuerKey: KeyObject;
  readonly number: number;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
  readonly revoked: readonly { readonly serial: string; readonly at: Date }[];
}): string {
  const { issuer, issuerKey, number, thisUpdate, nextUpdate, revoked } = request;
  const extension = (dotted: string, value: Asn1): Asn1 =>
    sequence(
      oid(dotted),
      asn1.create(Class.UNIVERSAL, Type.OCTETSTRING, false, toDer(value).toString('latin1')),
    );
  const keyId = asn1.create(Class.CONTEXT_SPECIFIC, TAG_0, false, keyIdentifier(issuerKey));
  const numberHex = number.toString(16).padStart(8, '0');
  const entries = revoked.map(({ serial, at }) => sequence(integer(serial), time(at)));
  const body = sequence(
    integer('01'),
    algorithm(),
    distinguishedName(issuer),
    time(thisUpdate),
    time(nextUpdate),
    // An empty list of entries is left out (RFC 5280 §5.1.2.6).
    ...(entries.length > 0 ? [sequence(...entries)] : []),
    explicit0(
      sequence(
        extension('2.5.29.35', sequence(keyId)),
        extension('2.5.29.20', integer(minimal(numberHex))),
      ),
    ),
  );
  return pem('X509 CRL', signed(body, issuerKey));
}

/** Hex of a non-negative integer in the fewest bytes that DER allows. */
const minimal = (hex: string): string => {
  const stripped = hex.replace(/^(00)+(?=[0-7][0-9a-f])/, '');
  return stripped === '' ? '00' : stripped;
};
