/**
 * The embedded guest's check of its whole memory against its own table. The table's word is held
 * against the sum in the registers, which travel apart from memory, by whoever asks.
 */
import { createHash } from 'node:crypto';
import { PAGE_BYTES } from '../../base/units.ts';
import type { SelfCheck } from '../driver.ts';
import { KvStore } from './kv-store.ts';
import type { RamLayout } from './layout.ts';
import { isPageIntact } from './self-checking.ts';

/** Nothing may be written meanwhile. */
export function checkMemory(ram: ArrayBuffer, layout: RamLayout): Omit<SelfCheck, 'registerSum'> {
  const { pages, dataFirst, imageFirst, imageBytes, kvFirst, kvPages } = layout;
  const words = new Uint32Array(ram);
  const bytes = Buffer.from(ram);
  const kv = new KvStore(bytes.subarray(kvFirst * PAGE_BYTES, (kvFirst + kvPages) * PAGE_BYTES));
  const audit = kv.audit();
  let badPages = audit.bad;
  let firstBadPage = audit.firstBadPage === null ? null : kvFirst + audit.firstBadPage;
  let { versionSum } = audit;
  let writtenPages = 0;
  for (let page = dataFirst; page < pages; page += 1) {
    const version = words[page] ?? 0;
    versionSum += version;
    if (version > 0) writtenPages += 1;
    if (isPageIntact(words, page, version)) continue;
    badPages += 1;
    firstBadPage ??= page;
  }
  const image = bytes.subarray(imageFirst * PAGE_BYTES, imageFirst * PAGE_BYTES + imageBytes);
  return {
    pages,
    writtenPages,
    badPages,
    firstBadPage,
    versionSum,
    kvEntries: audit.entries,
    imageSha256: imageBytes > 0 ? createHash('sha256').update(image).digest('hex') : null,
  };
}
