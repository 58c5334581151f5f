/**
 * RAM that is still to come: the guest's end. Its process keeps the trap, so that no end of a daemon lets
 * anyone through; whoever answers faults is sent a descriptor of it.
 */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { sendDescriptor } from '../../../native/descriptor-passing.ts';
import { descriptorOf } from '../../../native/descriptors.ts';
import { PageTrap } from '../../../native/page-trap.ts';
import type { Range } from '../../../native/userfaultfd.ts';

export class AbsentMemory {
  readonly #trap: PageTrap;
  readonly #server: Server;
  readonly #path: string;

  private constructor(trap: PageTrap, server: Server, path: string) {
    this.#trap = trap;
    this.#server = server;
    this.#path = path;
  }

  /** Sets the trap and serves it at `path`, which only its owner can open. Throws NATIVE_FAILED. */
  static async trap(range: Range, path: string): Promise<AbsentMemory> {
    const trap = new PageTrap(range);
    // u64 address, u64 length: where the pages are in this process.
    const note = new Uint8Array(
      new BigUint64Array([range.address, BigInt(range.byteLength)]).buffer,
    );
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      try {
        sendDescriptor(descriptorOf(socket), trap.fd, note);
      } finally {
        socket.end();
      }
    });
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    chmodSync(path, 0o600);
    return new AbsentMemory(trap, server, path);
  }

  /** Whoever is in it, or comes, goes on with what is there, when nobody else has its descriptor. */
  [Symbol.dispose](): void {
    this.#server.close();
    rmSync(this.#path, { force: true });
    this.#trap[Symbol.dispose]();
  }
}
