/**
 * userfaultfd (linux/userfaultfd.h): how one is opened, with which features, over which memory. What it is
 * used for is in write-protection.ts and page-trap.ts. It needs no privilege: it is told of faults that
 * happen in user mode only.
 */
import { closeNative } from './descriptors.ts';
import { checked, libc } from './libc.ts';

const syscall = libc.func('long syscall(long number, long flags)');
const call = libc.func('int ioctl(int fd, unsigned long request, _Inout_ void *argument)');

/** asm/unistd_64.h, asm-generic/unistd.h */
const SYS_USERFAULTFD = process.arch === 'arm64' ? 282 : 323;
const O_CLOEXEC = 0o2000000;
const O_NONBLOCK = 0o4000;
const UFFD_USER_MODE_ONLY = 1;

const UFFD_API = 0xaan;
/** _IOWR(0xAA, 0x3F, struct uffdio_api) — { api u64, features u64, ioctls u64 } */
const UFFDIO_API = 0xc018_aa3f;
/** _IOWR(0xAA, 0x00, struct uffdio_register) — { start u64, len u64, mode u64, ioctls u64 } */
const UFFDIO_REGISTER = 0xc020_aa00;

/** Memory of the process that a descriptor was opened in. */
export interface Range {
  readonly address: bigint;
  readonly byteLength: number;
}

/** A new descriptor over `range`, in a mode of struct uffdio_register. Throws NATIVE_FAILED. */
export function openUserfaultfd(range: Range, features: bigint, mode: bigint): number {
  const flags = O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY;
  const fd = checked('userfaultfd', syscall(SYS_USERFAULTFD, flags));
  try {
    ioctl('UFFDIO_API', fd, UFFDIO_API, new BigUint64Array([UFFD_API, features, 0n]));
    const { address, byteLength } = range;
    const registration = new BigUint64Array([address, BigInt(byteLength), mode, 0n]);
    ioctl('UFFDIO_REGISTER', fd, UFFDIO_REGISTER, registration);
    return fd;
  } catch (thrown) {
    closeNative(fd);
    throw thrown;
  }
}

/** Throws NATIVE_FAILED. */
export function ioctl(name: string, fd: number, request: number, argument: BigUint64Array): void {
  checked(name, call(fd, request, argument));
}
