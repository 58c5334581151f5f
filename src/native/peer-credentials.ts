/** Who is at the other end of a Unix socket (SO_PEERCRED: unix(7), asm-generic/socket.h). */
import { checked, libc } from './libc.ts';

const getsockopt = libc.func(
  'int getsockopt(int fd, int level, int name, void *value, _Inout_ uint32_t *length)',
);
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

/** As they were when it connected. */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
}

/** Throws NATIVE_FAILED. */
export function peerCredentials(fd: number): PeerCredentials {
  // struct ucred { pid i32, uid u32, gid u32 }
  const ucred = new Uint32Array(3);
  checked(
    'getsockopt',
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ucred, new Uint32Array([ucred.byteLength])),
  );
  const [pid = 0, uid = 0] = ucred;
  return { pid, uid };
}
