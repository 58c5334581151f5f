/** The one error class: a stable code from the table, a detail for this case, the cause kept. */
import { CODES, isCode, type Code, type CodeEntry } from './codes.ts';

export class MigError extends Error {
  override readonly name = 'MigError';
  readonly code: Code;
  /** What is particular to this case; never a secret, never guest data. */
  readonly detail: string;

  constructor(code: Code, detail = '', options?: ErrorOptions) {
    super(detail === '' ? CODES[code].what : `${CODES[code].what} (${detail})`, options);
    this.code = code;
    this.detail = detail;
  }

  get entry(): CodeEntry {
    return CODES[this.code];
  }

  /** Any thrown thing as a coded error: ours unchanged, everything else a defect. */
  static from(thrown: unknown, code: Code = 'INTERNAL'): MigError {
    if (thrown instanceof MigError) return thrown;
    const detail = thrown instanceof Error ? thrown.message : String(thrown);
    return new MigError(code, detail, { cause: thrown });
  }

  /** A code named by the peer; an unknown one becomes {@link fallback}. */
  static named(code: string, detail: string, fallback: Code): MigError {
    return isCode(code) ? new MigError(code, detail) : new MigError(fallback, `${code} ${detail}`);
  }
}
