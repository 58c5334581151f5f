/** Sizes. Names carry the unit last (`ramBytes`, `downtimeMs`, `bandwidthBps` in bytes a second). */

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;

/** Guest pages are 4 KiB, as the MMU's own and as PAGEMAP_SCAN reports them. */
export const PAGE_BYTES = 4 * KiB;
