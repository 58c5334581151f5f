/**
 * The destination's part of a guest's faults. A page that has come is mapped, with those around it that
 * have come too; for any other the source is asked, once, and whoever waits for it goes on when it is
 * there. No page that the guest may have written since is ever placed again: late-pages.ts.
 */
import type { Clock } from '../../base/ports.ts';
import { BATCH_DATA_BYTES_MAX, DEMAND_PAGES_MAX } from '../../base/limits.ts';
import type { Sealer } from '../../crypto/sealer.ts';
import type { PageFaults } from '../../native/page-trap.ts';
import { Placer } from '../../pages/placer.ts';
import type { LatePages } from '../../pages/late-pages.ts';
import type { SharedBitmap } from '../../pages/shared-bitmap.ts';
import { encodeDemand } from '../../protocol/demand.ts';
import { MigError } from '../../protocol/error.ts';
import type { FaultCounts } from '../../protocol/messages.ts';
import type { EncodingName } from '../../protocol/options.ts';
import type { RecordHeader } from '../../protocol/record.ts';
import { Latencies } from './latencies.ts';
import type { RecordSink } from './record-reader.ts';
import type { RecordSending } from './record-writer.ts';

/** Pages that are mapped along with one that a guest touched, when they have come. */
const MAP_AHEAD_PAGES = 64;

export interface FaultHandlerOptions {
  readonly faults: Pick<PageFaults, 'take' | 'resolve'>;
  readonly sealer: Sealer;
  readonly writer: RecordSending;
  readonly late: LatePages;
  /** Those that were agreed on. */
  readonly encodings: readonly EncodingName[];
  readonly absent: SharedBitmap;
  readonly clock: Pick<Clock, 'now'>;
}

export class FaultHandler implements RecordSink {
  /** It answers until it is closed. */
  readonly isOver = false;
  readonly #options: FaultHandlerOptions;
  readonly #placer: Placer;
  /** Asked for and not answered: since when. */
  readonly #asked = new Map<number, number>();
  readonly #latencies = new Latencies();
  #network = 0;
  #minor = 0;
  #plaintext: Uint8Array[] = [];

  constructor(options: FaultHandlerOptions) {
    this.#options = options;
    this.#placer = new Placer([options.late], new Set(options.encodings));
  }

  get counts(): FaultCounts {
    return { network: this.#network, minor: this.#minor, latencyMs: this.#latencies.summary };
  }

  /** Whether a page was asked for that has not come. */
  get isWaiting(): boolean {
    return this.#asked.size > 0;
  }

  /** Says which pages are lacking. */
  async tellAbsent(bitmap: Uint8Array): Promise<void> {
    const { sealer, writer } = this.#options;
    for (let at = 0; at < bitmap.length; at += BATCH_DATA_BYTES_MAX) {
      await writer.write(sealer.seal('absent', [bitmap.subarray(at, at + BATCH_DATA_BYTES_MAX)]));
    }
  }

  /** Takes the faults that are there: maps what has come, asks for the rest. */
  async take(): Promise<void> {
    const { faults, absent, clock, sealer, writer } = this.#options;
    const demanded: number[] = [];
    for (const page of faults.take()) {
      if (this.#asked.has(page)) continue;
      if (!absent.has(page)) {
        this.#minor += 1;
        this.#map(page);
        continue;
      }
      this.#network += 1;
      this.#asked.set(page, clock.now());
      demanded.push(page);
    }
    for (let at = 0; at < demanded.length; at += DEMAND_PAGES_MAX) {
      const pages = demanded.slice(at, at + DEMAND_PAGES_MAX);
      await writer.write(sealer.seal('demand', [encodeDemand(pages)]));
    }
  }

  /** Maps what was asked for and has come, by whichever channel. */
  settle(): void {
    const { absent, clock } = this.#options;
    for (const [page, since] of this.#asked) {
      if (absent.has(page)) continue;
      this.#asked.delete(page);
      this.#latencies.add(clock.now() - since);
      this.#map(page);
    }
  }

  begin({ kind }: RecordHeader): void {
    if (kind !== 'pages') throw new MigError('RECORD_ORDER', `${kind} in answer to a demand`);
    this.#plaintext = [];
  }

  plaintext(piece: Uint8Array): void {
    this.#plaintext.push(piece);
  }

  accepted({ length }: RecordHeader): void {
    this.#placer.begin(length, false);
    for (const piece of this.#plaintext) this.#placer.push(piece);
    this.#placer.end();
    this.#plaintext = [];
    this.settle();
  }

  #map(page: number): void {
    const { faults, absent } = this.#options;
    const end = Math.min(page + MAP_AHEAD_PAGES, absent.pageCount);
    let after = page + 1;
    while (after < end && !absent.has(after)) after += 1;
    faults.resolve(page, after - page);
  }
}
