/**
 * The OpenSSL that Node is linked with and exports, through koffi: each function is declared where it
 * is used. Its objects are addresses here; whoever makes one frees it.
 */
import koffi from 'koffi';
import { MigError } from '../protocol/error.ts';

const self = koffi.load(null);

type Call = ReturnType<typeof self.func>;

/**
 * A function of libcrypto or libssl. It is looked up at its first call, which throws where this Node
 * does not export it: such a Node can do without (self-test.ts).
 */
export function openssl(prototype: string): Call {
  let call: Call | undefined;
  return ((...args: unknown[]) => {
    call ??= self.func(prototype);
    return call(...args);
  }) as Call;
}

/** An object of OpenSSL. As a parameter: `uintptr_t`. */
export type Address = number;

const ERR_get_error = openssl('unsigned long ERR_get_error()');
const ERR_clear_error = openssl('void ERR_clear_error()');
const ERR_reason_error_string = openssl('const char *ERR_reason_error_string(unsigned long error)');

/**
 * What the last failed call left on this thread's error queue, as Node names it (`ERR_SSL_…`);
 * undefined when it left nothing. The queue is empty afterwards.
 */
export function takeError(): string | undefined {
  const error = Number(ERR_get_error());
  ERR_clear_error();
  if (error === 0) return undefined;
  const reason = String(ERR_reason_error_string(error) ?? error);
  return `ERR_SSL_${reason.toUpperCase().replaceAll(' ', '_')}`;
}

/** For calls that return 1 when all is well, or an object: throws NATIVE_FAILED when it is neither. */
export function done(call: string, result: number): number {
  if (result >= 1) return result;
  throw new MigError('NATIVE_FAILED', `${call}: ${takeError() ?? 'refused'}`);
}
