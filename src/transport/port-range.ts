/** Binds a server to the first free port of a range, or to any free port. */
import type { Server } from 'node:net';
import { MigError } from '../protocol/error.ts';

/** Both ends included. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

/** The port bound. Rejects with LISTEN_FAILED. */
export async function bindFirstFree(
  server: Server,
  address: string,
  range: PortRange = { from: 0, to: 0 },
): Promise<number> {
  for (let port = range.from; port <= range.to; port += 1) {
    const bound = await tryListen(server, address, port);
    if (bound !== undefined) return bound;
  }
  throw new MigError('LISTEN_FAILED', `${address}: no free port in ${range.from}-${range.to}`);
}

/** Undefined when the port is taken. */
function tryListen(server: Server, host: string, port: number): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const failed = (cause: NodeJS.ErrnoException) => {
      server.off('listening', listening);
      if (cause.code === 'EADDRINUSE') resolve(undefined);
      else reject(new MigError('LISTEN_FAILED', `${host}: ${cause.message}`, { cause }));
    };
    const listening = () => {
      server.off('error', failed);
      const bound = server.address();
      resolve(typeof bound === 'object' && bound !== null ? bound.port : undefined);
    };
    server.once('error', failed).once('listening', listening);
    server.listen({ port, host, exclusive: true });
  });
}
