/** Dirty pages by the MMU: write protection through userfaultfd, found by PAGEMAP_SCAN. */
import { PageScanner } from '../../native/page-scan.ts';
import { WriteProtection } from '../../native/write-protection.ts';
import { setRange, type DirtyTracker } from './tracker.ts';

export class UffdTracker implements DirtyTracker {
  readonly kind = 'uffd';
  readonly #address: bigint;
  readonly #byteLength: number;
  #armed: { readonly protection: WriteProtection; readonly scanner: PageScanner } | undefined;

  constructor(address: bigint, byteLength: number) {
    this.#address = address;
    this.#byteLength = byteLength;
  }

  /** Whether this kernel can: tried, not guessed from a version. */
  static isSupported(address: bigint, byteLength: number): boolean {
    try {
      using tracker = new UffdTracker(address, byteLength);
      tracker.arm();
      return true;
    } catch {
      return false;
    }
  }

  arm(): void {
    this.#armed ??= {
      protection: new WriteProtection({ address: this.#address, byteLength: this.#byteLength }),
      scanner: new PageScanner(this.#address, this.#byteLength),
    };
    this.#armed.scanner.scan(() => undefined);
  }

  collect(bitmap: Uint8Array): void {
    if (this.#armed === undefined) throw new Error('not armed');
    this.#armed.scanner.scan((first, pages) => setRange(bitmap, first, pages));
  }

  disarm(): void {
    this.#armed?.scanner[Symbol.dispose]();
    this.#armed?.protection[Symbol.dispose]();
    this.#armed = undefined;
  }

  [Symbol.dispose](): void {
    this.disarm();
  }
}
