/**
 * Branded numbers: an index is not a count, and neither is a size in bytes. The brand costs nothing
 * at run time; it stops one kind from being passed where another is meant.
 */

declare const unit: unique symbol;
type Branded<T, Name extends string> = T & { readonly [unit]: Name };

/** A size or an offset in bytes. */
export type Bytes = Branded<number, 'bytes'>;
/** A number of guest pages. */
export type PageCount = Branded<number, 'pages'>;
/** The index of a guest page within its region, from 0. */
export type PageIndex = Branded<number, 'page index'>;
/** A duration in milliseconds. */
export type Millis = Branded<number, 'ms'>;

export const bytes = (value: number): Bytes => value as Bytes;
export const pageCount = (value: number): PageCount => value as PageCount;
export const pageIndex = (value: number): PageIndex => value as PageIndex;
export const millis = (value: number): Millis => value as Millis;

/** Guest pages are 4 KiB, as the MMU's own and as PAGEMAP_SCAN reports them. */
export const PAGE_BYTES = 4096;

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
