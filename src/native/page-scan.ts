/**
 * PAGEMAP_SCAN (linux/fs.h, Linux ≥ 6.7): finds the pages of a range that were written since the
 * last scan and protects them again, in one atomic step each.
 */
import koffi from 'koffi';
import { closeSync, openSync } from 'node:fs';
import { PAGE_BYTES } from '../base/units.ts';
import { checked, libc } from './libc.ts';

const ioctl = libc.func('int ioctl(int fd, unsigned long request, _Inout_ void *argument)');

/** _IOWR('f', 16, struct pm_scan_arg) */
const PAGEMAP_SCAN = 0xc060_6610;
const PM_SCAN_WP_MATCHING = 1n << 0n;
const PM_SCAN_CHECK_WPASYNC = 1n << 1n;
const PAGE_IS_WRITTEN = 1n << 1n;

/** struct pm_scan_arg, as 12 u64. */
const ARG = {
  size: 0,
  flags: 1,
  start: 2,
  end: 3,
  walkEnd: 4,
  vector: 5,
  vectorLength: 6,
  maxPages: 7,
  categoryInverted: 8,
  categoryMask: 9,
  categoryAnyOfMask: 10,
  returnMask: 11,
} as const;
const ARG_WORDS = 12;
/** struct page_region { start u64, end u64, categories u64 } */
const REGION_WORDS = 3;
/** Regions a call; a scan that finds more goes on where it stopped. */
const REGIONS = 4096;

export class PageScanner {
  readonly #fd = openSync('/proc/self/pagemap', 'r');
  readonly #address: bigint;
  readonly #end: bigint;
  readonly #argument = new BigUint64Array(ARG_WORDS);
  readonly #regions = new BigUint64Array(REGION_WORDS * REGIONS);

  /** The range must be under {@link WriteProtection} for as long as it is scanned. */
  constructor(address: bigint, byteLength: number) {
    this.#address = address;
    this.#end = address + BigInt(byteLength);
    const argument = this.#argument;
    argument[ARG.size] = BigInt(argument.byteLength);
    argument[ARG.flags] = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
    argument[ARG.vector] = koffi.address(this.#regions);
    argument[ARG.vectorLength] = BigInt(REGIONS);
    argument[ARG.categoryMask] = PAGE_IS_WRITTEN;
    argument[ARG.returnMask] = PAGE_IS_WRITTEN;
  }

  /** Calls `found` for every run of pages written since the last scan; they are protected again. */
  scan(found: (firstPage: number, pages: number) => void): void {
    let from = this.#address;
    while (from < this.#end) {
      this.#argument[ARG.start] = from;
      this.#argument[ARG.end] = this.#end;
      this.#argument[ARG.walkEnd] = 0n;
      const count = checked('PAGEMAP_SCAN', ioctl(this.#fd, PAGEMAP_SCAN, this.#argument));
      for (let i = 0; i < count; i += 1) {
        const start = this.#page(this.#regions[i * REGION_WORDS] ?? 0n);
        const end = this.#page(this.#regions[i * REGION_WORDS + 1] ?? 0n);
        found(start, end - start);
      }
      from = this.#argument[ARG.walkEnd] ?? this.#end;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #page(address: bigint): number {
    return Number(address - this.#address) / PAGE_BYTES;
  }
}
