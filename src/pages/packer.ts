/**
 * Makes of a batch as it was read one that takes fewer bytes: pages that are the same as others, pages of
 * which only a part has changed, compressed ones. It does what it is told to; whether it pays is not its to
 * know (encoding-choice.ts).
 */
import { assert } from '../base/assert.ts';
import { BATCH_RUNS_MAX, FRAME_PAGES_MAX } from '../base/limits.ts';
import { PAGE_BYTES } from '../base/units.ts';
import type { EncodingName } from '../protocol/options.ts';
import { SOURCE_BYTES, type Run } from './batch.ts';
import type { Batch } from './batcher.ts';
import { frameOf } from './encodings/frame.ts';
import { SentContents } from './encodings/sent-contents.ts';
import { SentVersions } from './encodings/sent-versions.ts';

/** Of pages that are sent when the guest runs at the destination: what it has there is the guest's. */
export const LATE = -1;

/** A frame that saves less than this is not worth to be expanded. */
const SAVING = 1 / 16;

type Growing = { -readonly [K in keyof Run]: Run[K] };

/** Pages gathered for one frame. */
class Gathered {
  readonly words = new Uint32Array((FRAME_PAGES_MAX * PAGE_BYTES) / 4);
  readonly #bytes = new Uint8Array(this.words.buffer);
  #pages = 0;
  runs: Growing[] = [];

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#pages * PAGE_BYTES);
  }

  /** Where the next page goes. */
  get next(): Uint32Array {
    const at = (this.#pages * PAGE_BYTES) / 4;
    return this.words.subarray(at, at + PAGE_BYTES / 4);
  }

  add(region: number, encoding: EncodingName, page: number): void {
    grow(this.runs, region, encoding, page);
    this.#pages += 1;
  }

  clear(): void {
    this.runs = [];
    this.#pages = 0;
  }
}

function grow(runs: Growing[], region: number, encoding: EncodingName, page: number): Growing {
  const last = runs.at(-1);
  if (last !== undefined && last.firstPage + last.pageCount === page) {
    last.pageCount += 1;
    return last;
  }
  const run = { region, encoding, firstPage: page, pageCount: 1, dataBytes: 0 };
  runs.push(run);
  return run;
}

export class Packer {
  readonly #encodings: ReadonlySet<EncodingName>;
  readonly #contents = new SentContents();
  readonly #versions: SentVersions;
  /** Made when something is packed: on a fast link nothing is. */
  #changed: Gathered | undefined;
  #rest: Gathered | undefined;
  #round = 0;

  /** `versionBytesMax`: for pages as they were sent. */
  constructor(encodings: ReadonlySet<EncodingName>, versionBytesMax: number) {
    this.#encodings = encodings;
    this.#versions = new SentVersions(encodings.has('delta') ? versionBytesMax : 0);
  }

  /** Whether there is anything to choose. */
  get canPack(): boolean {
    return this.#encodings.has('zstd') || this.#encodings.has('duplicate');
  }

  /** Before the first batch of a round; {@link LATE} when no page is of a round any more. */
  beginRound(round: number): void {
    this.#round = round;
    this.#contents.clear();
  }

  /** As it is. */
  plain(batch: Batch): Batch {
    this.#drop(batch.runs);
    return batch;
  }

  /** In fewer bytes, where that can be; good until the next one. */
  pack(batch: Batch): Batch {
    const changed = (this.#changed ??= new Gathered());
    const rest = (this.#rest ??= new Gathered());
    const same: Part & { readonly runs: Growing[] } = { runs: [], data: [] };
    const sources: number[] = [];
    changed.clear();
    rest.clear();
    this.#contents.beginBatch();
    for (const { region, page, bytes } of rawPagesOf(batch)) {
      const words = wordsOf(bytes);
      const source = this.#sameAs(bytes, page);
      if (source !== undefined) {
        grow(same.runs, region, 'duplicate', page).dataBytes += SOURCE_BYTES;
        sources.push(source);
      } else if (!this.#isLate && this.#versions.change(page, words, changed.next)) {
        changed.add(region, 'delta', page);
      } else {
        rest.next.set(words);
        rest.add(region, 'raw', page);
      }
      // What is sent for the first time may never be again.
      if (this.#round > 0) this.#versions.keep(page, words, this.#round);
    }
    const zeros = batch.runs.filter(({ encoding }) => encoding === 'zero');
    this.#drop(zeros);
    const packed = join([
      { runs: zeros, data: [] },
      this.#restPart(rest),
      changedPart(changed),
      // Last: the pages that they are the same as may be in this very batch.
      { runs: same.runs, data: sources.length > 0 ? [sourceBytes(sources)] : [] },
    ]);
    // Apart by their encodings there may be more runs than a batch has.
    return packed.runs.length > BATCH_RUNS_MAX ? batch : { ...batch, ...packed };
  }

  get #isLate(): boolean {
    return this.#round === LATE;
  }

  #drop(runs: readonly Run[]): void {
    for (const { firstPage, pageCount } of runs) this.#versions.drop(firstPage, pageCount);
  }

  #sameAs(content: Uint8Array, page: number): number | undefined {
    return this.#isLate || !this.#encodings.has('duplicate')
      ? undefined
      : this.#contents.find(content, page);
  }

  #restPart({ runs, bytes }: Gathered): Part {
    if (runs.length === 0) return { runs, data: [] };
    if (this.#encodings.has('zstd')) {
      const frame = frameOf(bytes);
      if (frame.length < bytes.length * (1 - SAVING)) return framed(runs, 'zstd', frame);
    }
    for (const run of runs) run.dataBytes = run.pageCount * PAGE_BYTES;
    return { runs, data: [bytes] };
  }
}

/** Runs with their data. */
type Part = Pick<Batch, 'runs' | 'data'>;

const join = (parts: readonly Part[]): Part => ({
  runs: parts.flatMap(({ runs }) => runs),
  data: parts.flatMap(({ data }) => data),
});

const changedPart = ({ runs, bytes }: Gathered): Part =>
  runs.length === 0 ? { runs, data: [] } : framed(runs, 'delta', frameOf(bytes));

function framed(runs: readonly Growing[], encoding: EncodingName, frame: Uint8Array): Part {
  for (const [index, run] of runs.entries()) {
    run.encoding = encoding;
    run.dataBytes = index === 0 ? frame.length : 0;
  }
  return { runs, data: [frame] };
}

function sourceBytes(pages: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(pages.length * SOURCE_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [index, page] of pages.entries()) view.setUint32(index * SOURCE_BYTES, page);
  return bytes;
}

/** Each page of the raw runs of a batch as it was read, whose pieces are whole pages. */
function* rawPagesOf({
  runs,
  data,
}: Batch): Generator<{ region: number; page: number; bytes: Uint8Array }, void, void> {
  let piece = 0;
  let at = 0;
  for (const { region, encoding, firstPage, pageCount } of runs) {
    if (encoding !== 'raw') continue;
    for (let page = firstPage; page < firstPage + pageCount; page += 1) {
      if (at === data[piece]?.length) [piece, at] = [piece + 1, 0];
      const bytes = data[piece]?.subarray(at, at + PAGE_BYTES);
      assert(bytes?.length === PAGE_BYTES, 'a batch with less data than its runs');
      yield { region, page, bytes };
      at += PAGE_BYTES;
    }
  }
}

const wordsOf = ({ buffer, byteOffset, length }: Uint8Array): Uint32Array =>
  new Uint32Array(buffer, byteOffset, length / 4);
