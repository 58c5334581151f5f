/**
 * The names by which a TPM knows its keys: the public areas of the endorsement key and of the
 * attestation key made under it, and the qualified name that every quote carries, which so binds
 * the attestation key to the endorsement key. Knows nothing of private parts.
 */
import { hash } from 'node:crypto';
import { ByteWriter } from './binary.ts';
import { COORDINATE_BYTES, type EccKey } from './ecc-key.ts';

/** TPM_ALG_ID, TPM_ECC_CURVE and TPM_RH constants (TPM 2.0 Part 2 §6.3, §6.4, §7.4). */
const ALG_ECC = 0x0023;
const ALG_SHA256 = 0x000b;
const ALG_NULL = 0x0010;
const ALG_ECDSA = 0x0018;
const ALG_AES = 0x0006;
const ALG_CFB = 0x0043;
const CURVE_NIST_P256 = 0x0003;
const RH_ENDORSEMENT = 0x4000_000b;

/** TPMA_OBJECT of the TCG EK Credential Profile, template L-2. */
const ENDORSEMENT_ATTRIBUTES = 0x0003_00b2;
/** PolicySecret(endorsement hierarchy), of the same template. */
const ENDORSEMENT_POLICY = Buffer.from(
  '837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa',
  'hex',
);
/** fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign. */
const ATTESTATION_ATTRIBUTES = 0x0005_0072;

const DIGEST_BYTES = 32;
const NAME_BYTES = 2 + DIGEST_BYTES;
/** TPMT_PUBLIC up to the parameters, without the policy: type, nameAlg, attributes, policy size. */
const PUBLIC_HEAD_BYTES = 2 + 2 + 4 + 2;
const POINT_BYTES = 2 * (2 + COORDINATE_BYTES);

/** The attestation key's qualified name: H(H(endorsement hierarchy ‖ EK name) ‖ AK name). */
export function qualifiedSigner(endorsement: EccKey, attestation: EccKey): Buffer {
  const hierarchy = new ByteWriter(4).u32(RH_ENDORSEMENT).finish();
  const parent = nameOf(hierarchy, nameOf(endorsementPublic(endorsement)));
  return nameOf(parent, nameOf(attestationPublic(attestation)));
}

/** nameAlg ‖ H(parts), as Part 1 §16 defines names and qualified names. */
function nameOf(...parts: readonly Uint8Array[]): Buffer {
  const digest = hash('sha256', Buffer.concat(parts), 'buffer');
  return new ByteWriter(NAME_BYTES).u16(ALG_SHA256).raw(digest).finish();
}

function endorsementPublic(key: EccKey): Buffer {
  const { x, y } = key.publicPoint;
  const parametersBytes = 6 + 2 + 2 + 2;
  const size = PUBLIC_HEAD_BYTES + DIGEST_BYTES + parametersBytes + POINT_BYTES;
  const writer = new ByteWriter(size);
  writer.u16(ALG_ECC).u16(ALG_SHA256).u32(ENDORSEMENT_ATTRIBUTES).sized(ENDORSEMENT_POLICY);
  writer.u16(ALG_AES).u16(128).u16(ALG_CFB);
  return writer.u16(ALG_NULL).u16(CURVE_NIST_P256).u16(ALG_NULL).sized(x).sized(y).finish();
}

function attestationPublic(key: EccKey): Buffer {
  const { x, y } = key.publicPoint;
  const parametersBytes = 2 + 4 + 2 + 2;
  const writer = new ByteWriter(PUBLIC_HEAD_BYTES + parametersBytes + POINT_BYTES);
  writer.u16(ALG_ECC).u16(ALG_SHA256).u32(ATTESTATION_ATTRIBUTES).u16(0);
  writer.u16(ALG_NULL).u16(ALG_ECDSA).u16(ALG_SHA256);
  return writer.u16(CURVE_NIST_P256).u16(ALG_NULL).sized(x).sized(y).finish();
}
