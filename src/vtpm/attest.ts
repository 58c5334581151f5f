/**
 * The bytes that a quote signs: TPMS_ATTEST of TPM 2.0 Part 2 §10.12.12, big-endian. Knows nothing
 * of the key that signs them.
 */
import { hash } from 'node:crypto';
import { ByteWriter } from './binary.ts';
import { PCR_BANKS, type BankSelection, type PcrSelection, type PcrValue } from './pcr-banks.ts';

const TPM_GENERATED = 0xff54_4347;
const TPM_ST_ATTEST_QUOTE = 0x8018;
/** One bit a PCR, 24 PCRs. */
const SELECT_BYTES = 3;
const BANK_SELECTION_BYTES = 2 + 1 + SELECT_BYTES;
const PCR_DIGEST_BYTES = 32;
/** Of this software TPM; two words of Part 2 §6.13's free form. */
const FIRMWARE_VERSION = { major: 1, minor: 0 };

/** TPMS_CLOCK_INFO (Part 2 §10.11.1). */
export interface ClockInfo {
  /** Milliseconds that this vTPM has run. */
  readonly clockMs: number;
  /** Resets (power cycles) of the guest. */
  readonly resetCount: number;
  /** Suspensions since the last reset; a migration is none. */
  readonly restartCount: number;
  /** Whether no higher clock was ever shown: false after a reset from a state that was not the last. */
  readonly clockSafe: boolean;
}

export interface QuoteSubject {
  readonly qualifiedSigner: Uint8Array;
  /** The verifier's qualifying data. */
  readonly nonce: Uint8Array;
  readonly clock: ClockInfo;
  readonly selection: PcrSelection;
  /** The selected values in the selection's order. */
  readonly values: readonly PcrValue[];
}

export function quoteBytes(subject: QuoteSubject): Uint8Array {
  const { qualifiedSigner, nonce, clock, selection, values } = subject;
  const pcrDigest = hash('sha256', Buffer.concat(values.map(({ digest }) => digest)), 'buffer');
  const fixedBytes = 4 + 2 + 2 + 2 + (8 + 4 + 4 + 1) + 8 + 4 + 2;
  const writer = new ByteWriter(
    fixedBytes +
      qualifiedSigner.length +
      nonce.length +
      selection.length * BANK_SELECTION_BYTES +
      PCR_DIGEST_BYTES,
  );
  writer.u32(TPM_GENERATED).u16(TPM_ST_ATTEST_QUOTE).sized(qualifiedSigner).sized(nonce);
  writer.u64(clock.clockMs).u32(clock.resetCount).u32(clock.restartCount);
  writer
    .u8(clock.clockSafe ? 1 : 0)
    .u32(FIRMWARE_VERSION.major)
    .u32(FIRMWARE_VERSION.minor);
  writer.u32(selection.length);
  for (const bank of selection) writeBankSelection(writer, bank);
  return new Uint8Array(writer.sized(pcrDigest).finish());
}

/** TPMS_PCR_SELECTION: PCR n is bit n mod 8 of byte n div 8. */
function writeBankSelection(writer: ByteWriter, { bank, indexes }: BankSelection): void {
  const select = new Uint8Array(SELECT_BYTES);
  for (const index of indexes) select[index >> 3] = (select[index >> 3] ?? 0) | (1 << (index & 7));
  writer.u16(PCR_BANKS[bank].algorithmId).u8(SELECT_BYTES).raw(select);
}
