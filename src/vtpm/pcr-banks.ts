/**
 * Platform configuration registers in two banks, SHA-256 and SHA-384. All start at zero; a PCR
 * changes only by extend (TPM 2.0 Part 1 §17.2). Knows nothing of commands, quotes or keys.
 */
import { hash } from 'node:crypto';
import { assert } from '../base/assert.ts';
import { VTPM_PCR_COUNT } from '../base/limits.ts';
import { type ByteReader, type ByteWriter, malformed } from './binary.ts';

export type PcrBank = 'sha256' | 'sha384';

/** Algorithm identifiers (TPM 2.0 Part 2 §6.3) and digest sizes, in the order of the saved state. */
export const PCR_BANKS = {
  sha256: { algorithmId: 0x000b, digestBytes: 32 },
  sha384: { algorithmId: 0x000c, digestBytes: 48 },
} as const;

export const PCR_BANK_NAMES = ['sha256', 'sha384'] as const satisfies readonly PcrBank[];

/** PCRs of one bank, strictly ascending. */
export interface BankSelection {
  readonly bank: PcrBank;
  readonly indexes: readonly number[];
}

/** One or two different banks; their order is the order of the values and of the quoted digest. */
export type PcrSelection = readonly BankSelection[];

export interface PcrValue {
  readonly bank: PcrBank;
  readonly index: number;
  readonly digest: Uint8Array;
}

export class PcrBanks {
  readonly #banks: Record<PcrBank, Buffer> = {
    sha256: Buffer.alloc(VTPM_PCR_COUNT * PCR_BANKS.sha256.digestBytes),
    sha384: Buffer.alloc(VTPM_PCR_COUNT * PCR_BANKS.sha384.digestBytes),
  };

  /** The size of {@link writeTo}: for each bank its algorithm, PCR count and values. */
  static readonly sizeBytes = PCR_BANK_NAMES.reduce(
    (sum, bank) => sum + 3 + VTPM_PCR_COUNT * PCR_BANKS[bank].digestBytes,
    0,
  );

  static readFrom(reader: ByteReader): PcrBanks {
    const banks = new PcrBanks();
    for (const bank of PCR_BANK_NAMES) {
      if (reader.u16() !== PCR_BANKS[bank].algorithmId) throw malformed('another PCR bank');
      if (reader.u8() !== VTPM_PCR_COUNT) throw malformed('another number of PCRs');
      const values = banks.#banks[bank];
      values.set(reader.raw(values.length));
    }
    return banks;
  }

  writeTo(writer: ByteWriter): void {
    for (const bank of PCR_BANK_NAMES) {
      writer.u16(PCR_BANKS[bank].algorithmId).u8(VTPM_PCR_COUNT).raw(this.#banks[bank]);
    }
  }

  /** PCR := H(PCR ‖ digest) in both banks. */
  extend(index: number, digests: Readonly<Record<PcrBank, Uint8Array>>): void {
    for (const bank of PCR_BANK_NAMES) {
      assert(digests[bank].length === PCR_BANKS[bank].digestBytes, 'a digest of the bank’s size');
      const value = this.#view(bank, index);
      value.set(hash(bank, Buffer.concat([value, digests[bank]]), 'buffer'));
    }
  }

  /** Extends with the hash of `event` by each bank's algorithm (TPM2_PCR_Event). */
  event(index: number, event: Uint8Array): void {
    this.extend(index, {
      sha256: hash('sha256', event, 'buffer'),
      sha384: hash('sha384', event, 'buffer'),
    });
  }

  /** Copies of the selected values, in the selection's order. */
  read(selection: PcrSelection): PcrValue[] {
    return selection.flatMap(({ bank, indexes }) =>
      indexes.map((index) => ({ bank, index, digest: new Uint8Array(this.#view(bank, index)) })),
    );
  }

  reset(): void {
    for (const bank of PCR_BANK_NAMES) this.#banks[bank].fill(0);
  }

  #view(bank: PcrBank, index: number): Buffer {
    assert(index >= 0 && index < VTPM_PCR_COUNT, 'a PCR that exists');
    const { digestBytes } = PCR_BANKS[bank];
    return this.#banks[bank].subarray(index * digestBytes, (index + 1) * digestBytes);
  }
}
