/** Guest memory for tests: files as a guest has them, with pages of known kinds. */
import { createHash, randomFillSync } from 'node:crypto';
import { randomUUID } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PAGE_BYTES } from '../../../../src/base/units.ts';
import { exchangeLayout, STATE_BYTES_MAX } from '../../../../src/guest/exchange.ts';
import type { MemoryPlace } from '../../../../src/migration/data-plane/messages.ts';
import { RamFile } from '../../../../src/migration/data-plane/ram-file.ts';
import { SharedMapping } from '../../../../src/native/mapping.ts';
import { Bitmap } from '../../../../src/pages/bitmap.ts';

/** On tmpfs where there is one, as in production. */
const FOLDER = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

export class TestMemory {
  readonly place: MemoryPlace;
  readonly ram: Uint8Array;
  readonly state: Uint8Array;
  readonly dirty: Bitmap;
  readonly #mappings: SharedMapping[];

  constructor(ramBytes: number) {
    const name = path.join(FOLDER, `migd-test-${randomUUID()}`);
    const layout = exchangeLayout(ramBytes);
    const ram = SharedMapping.create(`${name}.ram`, ramBytes);
    const exchange = SharedMapping.create(`${name}.exchange`, layout.totalBytes);
    this.#mappings = [ram, exchange];
    this.place = { ramPath: `${name}.ram`, ramBytes, exchangePath: `${name}.exchange` };
    this.ram = new Uint8Array(ram.view());
    const area = exchange.view();
    this.state = new Uint8Array(area, layout.stateOffset, STATE_BYTES_MAX);
    const bits = new Uint8Array(area, layout.bitmapOffset, layout.bitmapBytes);
    this.dirty = new Bitmap(bits, ramBytes / PAGE_BYTES);
    this.#bits = bits;
  }

  readonly #bits: Uint8Array;

  /** RAM as the data plane reads and writes it. */
  file(): RamFile {
    return new RamFile(this.place.ramPath, this.place.ramBytes);
  }

  clearDirty(): void {
    this.#bits.fill(0);
  }

  /** Random bytes into a page, and marks it. */
  scribble(page: number): void {
    randomFillSync(this.ram, page * PAGE_BYTES, PAGE_BYTES);
    this.dirty.add(page);
  }

  /** Zeros a page, and marks it. */
  blank(page: number): void {
    this.ram.fill(0, page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
    this.dirty.add(page);
  }

  digest(): string {
    return createHash('sha256').update(this.ram).digest('hex');
  }

  [Symbol.dispose](): void {
    for (const mapping of this.#mappings) mapping[Symbol.dispose]();
    rmSync(this.place.ramPath, { force: true });
    rmSync(this.place.exchangePath, { force: true });
  }
}
