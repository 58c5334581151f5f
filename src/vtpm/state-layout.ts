/**
 * The saved state of a vTPM, in clear: everything that it needs to continue exactly, in one
 * encoding only (what is accepted would be written back byte for byte). Big-endian:
 *
 *     magic "migdvtpm" · version u16 · clock ms u64 · resetCount u32 · restartCount u32 · safe u8
 *     endorsement scalar u16+32 · attestation scalar u16+32
 *     for SHA-256, then SHA-384: algorithm u16 · PCR count u8 · values
 *     NV count u16 · ascending: index u32 · kind u8 · sized contents
 *
 * It carries no checksum: at rest and on the wire it is sealed. Knows nothing of either.
 */
import { VTPM_STATE_BYTES_MAX } from '../base/limits.ts';
import { MigError } from '../protocol/error.ts';
import type { ClockInfo } from './attest.ts';
import { ByteReader, ByteWriter, malformed } from './binary.ts';
import { EccKey, SCALAR_BYTES } from './ecc-key.ts';
import { NvStorage } from './nv-storage.ts';
import { PcrBanks } from './pcr-banks.ts';

const MAGIC = Buffer.from('migdvtpm', 'latin1');
const VERSION = 1;
const CLOCK_BYTES = 8 + 4 + 4 + 1;

/** The parts of a live vTPM. Whoever holds it disposes of the keys and the NV storage. */
export interface TpmParts {
  readonly clock: ClockInfo;
  readonly endorsement: EccKey;
  readonly attestation: EccKey;
  readonly pcrs: PcrBanks;
  readonly nv: NvStorage;
}

/** The state in a buffer of its own, which the caller wipes after use. */
export function encodeState(parts: TpmParts): Buffer {
  const { clock, endorsement, attestation, pcrs, nv } = parts;
  const keysBytes = 2 * (2 + SCALAR_BYTES);
  const writer = new ByteWriter(
    MAGIC.length + 2 + CLOCK_BYTES + keysBytes + PcrBanks.sizeBytes + nv.sizeBytes,
  );
  writer.raw(MAGIC).u16(VERSION);
  writer.u64(clock.clockMs).u32(clock.resetCount).u32(clock.restartCount);
  writer.u8(clock.clockSafe ? 1 : 0);
  writer.sized(endorsement.scalar).sized(attestation.scalar);
  pcrs.writeTo(writer);
  nv.writeTo(writer);
  return writer.finish();
}

/** Copies out of `bytes`, which stay the caller's to wipe. Throws VTPM_FAILED. */
export function decodeState(bytes: Uint8Array): TpmParts {
  if (bytes.length > VTPM_STATE_BYTES_MAX) throw malformed('it is too large');
  const reader = new ByteReader(bytes);
  if (!reader.raw(MAGIC.length).equals(MAGIC)) throw malformed('it is none');
  const version = reader.u16();
  if (version !== VERSION) {
    throw new MigError('VTPM_FAILED', `saved state has version ${version}, not ${VERSION}`);
  }
  const clock = {
    clockMs: reader.u64(),
    resetCount: reader.u32(),
    restartCount: reader.u32(),
    clockSafe: readFlag(reader),
  };
  using guard = new DisposableStack();
  const endorsement = guard.use(EccKey.fromScalar(reader.sized(SCALAR_BYTES)));
  const attestation = guard.use(EccKey.fromScalar(reader.sized(SCALAR_BYTES)));
  const pcrs = PcrBanks.readFrom(reader);
  const nv = guard.use(NvStorage.readFrom(reader));
  reader.end();
  guard.move();
  return { clock, endorsement, attestation, pcrs, nv };
}

function readFlag(reader: ByteReader): boolean {
  const flag = reader.u8();
  if (flag > 1) throw malformed('a flag is neither 0 nor 1');
  return flag === 1;
}
