/**
 * The embedded guest's map of its RAM, in pages:
 *
 *     version table │ image (a file's bytes, if any) │ data pages …
 *
 * The table holds the version that each page must have (u32, 0 = never written). With the `kv`
 * workload the first half of the data pages is its store, the rest are self-checking pages.
 */
import { PAGE_BYTES } from '../../base/units.ts';
import type { Workload } from '../../protocol/descriptor.ts';

export interface RamLayout {
  readonly pages: number;
  readonly imageFirst: number;
  readonly imageBytes: number;
  readonly kvFirst: number;
  readonly kvPages: number;
  /** Self-checking pages: [dataFirst, pages). */
  readonly dataFirst: number;
  /** Of these, the ones a writing workload goes on writing. */
  readonly workingPages: number;
}

export function ramLayout(ramBytes: number, imageBytes: number, workload: Workload): RamLayout {
  const pages = ramBytes / PAGE_BYTES;
  const imageFirst = Math.ceil((pages * 4) / PAGE_BYTES);
  const kvFirst = imageFirst + Math.ceil(imageBytes / PAGE_BYTES);
  const free = Math.max(pages - kvFirst, 0);
  const kvPages = workload.kind === 'kv' ? Math.floor(free / 2) : 0;
  const dataFirst = kvFirst + kvPages;
  const wanted = 'workingSetBytes' in workload ? workload.workingSetBytes / PAGE_BYTES : 0;
  return {
    pages,
    imageFirst,
    imageBytes,
    kvFirst,
    kvPages,
    dataFirst,
    workingPages: Math.min(Math.ceil(wanted), pages - dataFirst),
  };
}
