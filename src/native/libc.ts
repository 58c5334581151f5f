/**
 * The C library, through koffi: each function is declared where it is used; here is how a call is
 * made and how its failure becomes an error.
 */
import koffi from 'koffi';
import { constants } from 'node:os';
import { MigError } from '../protocol/error.ts';

export const libc = koffi.load('libc.so.6');

/** The name of the last failed call's errno, for example `ENOSPC`. */
export function errnoName(): string {
  const errno = koffi.errno();
  const found = Object.entries(constants.errno).find(([, value]) => value === errno);
  return found?.[0] ?? `errno ${errno}`;
}

/** Throws NATIVE_FAILED with the call's name when it returned -1. */
export function checked(call: string, result: number | bigint): number {
  const value = Number(result);
  if (value === -1) throw new MigError('NATIVE_FAILED', `${call}: ${errnoName()}`);
  return value;
}
