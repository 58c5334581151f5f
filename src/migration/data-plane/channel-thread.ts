/**
 * The main thread's handle on one worker of the data plane: its commands, its reports in order, its
 * failure, its end. A worker that crashes, exits or breaks is one coded error for all who wait.
 */
import type { Worker } from 'node:worker_threads';
import { WORKER_CLOSE_MS_MAX } from '../../base/limits.ts';
import type { Clock } from '../../base/ports.ts';
import { closeNative } from '../../native/descriptors.ts';
import { interrupt } from '../../native/sockets.ts';
import { MigError } from '../../protocol/error.ts';
import {
  keysOf,
  type Command,
  type Extent,
  type Report,
  type ReportOf,
  type Setup,
} from './messages.ts';

/** Reports of one kind that nobody has asked for yet: a peer that runs further ahead is wrong. */
const UNASKED_MAX = 4;

type Waiter = PromiseWithResolvers<Report>;

export class ChannelThread {
  /** Resolves at the first failure; never when it is closed before. */
  readonly failed: Promise<MigError>;
  readonly #worker: Worker;
  readonly #clock: Clock;
  readonly #exited = Promise.withResolvers<void>();
  readonly #fail: (error: MigError) => void;
  readonly #unasked = new Map<Report['kind'], Report[]>();
  readonly #waiters = new Map<Report['kind'], Waiter[]>();
  readonly #progressed: (report: ReportOf<'progress'>) => void;
  #failure: MigError | undefined;
  #isClosing = false;
  #extent: Extent | null = null;
  /** What the worker waits on: its connection, and the trap of a guest. */
  #fd: number | null = null;
  #trapFd: number | null = null;

  /** Sets `worker` to its duty and owns it; the keys in `setup` move into the thread. */
  constructor(
    worker: Worker,
    setup: Setup,
    clock: Clock,
    progressed: (report: ReportOf<'progress'>) => void = () => undefined,
  ) {
    const { promise, resolve } = Promise.withResolvers<MigError>();
    this.failed = promise;
    this.#fail = (error) => {
      if (this.#failure !== undefined) return;
      this.#failure = error;
      for (const waiter of [...this.#waiters.values()].flat()) waiter.reject(error);
      this.#waiters.clear();
      if (!this.#isClosing) resolve(error);
    };
    this.#clock = clock;
    this.#progressed = progressed;
    this.#worker = worker;
    worker.postMessage(
      setup,
      keysOf(setup).map(({ buffer }) => buffer),
    );
    this.#worker.on('message', (report: Report) => this.#take(report));
    this.#worker.on('error', (cause) =>
      this.#fail(new MigError('INTERNAL', `data worker: ${cause.message}`, { cause })),
    );
    this.#worker.on('exit', () => {
      this.#fail(new MigError('CHANNEL_LOST', 'the data worker ended'));
      this.#exited.resolve();
    });
  }

  send(command: Command): void {
    this.#worker.postMessage(command, []);
  }

  /** The next report of a kind. Rejects with the channel's failure. */
  next<K extends Report['kind']>(kind: K, limitMs?: number): Promise<ReportOf<K>> {
    const arrived = this.#unasked.get(kind)?.shift();
    if (arrived !== undefined) return Promise.resolve(arrived as ReportOf<K>);
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const waiter: Waiter = Promise.withResolvers();
    this.#waiters.set(kind, [...(this.#waiters.get(kind) ?? []), waiter]);
    const timer =
      limitMs === undefined
        ? undefined
        : this.#clock.after(limitMs, () =>
            this.#fail(new MigError('PEER_SILENT', `no ${kind} within ${limitMs} ms`)),
          );
    return waiter.promise.finally(() => timer?.cancel()) as Promise<ReportOf<K>>;
  }

  /**
   * Ends the worker: wiped by itself, by force when it does not within the bound. Resolves with how
   * far round `reckon` came on this channel; null when that was not asked or it does not say.
   */
  async close(reckon?: number): Promise<Extent | null> {
    this.#isClosing = true;
    if (this.#fd !== null) interrupt(this.#fd);
    this.send({ kind: 'close', reckon });
    const force = this.#clock.after(WORKER_CLOSE_MS_MAX, () => void this.#worker.terminate());
    await this.#exited.promise;
    force.cancel();
    for (const fd of [this.#fd, this.#trapFd]) if (fd !== null) closeNative(fd);
    this.#fd = null;
    this.#trapFd = null;
    return this.#extent;
  }

  #take(report: Report): void {
    if (report.kind === 'failed') {
      this.#fail(new MigError(report.code, report.detail));
      return;
    }
    if (report.kind === 'progress') {
      this.#progressed(report);
      return;
    }
    if (report.kind === 'reckoned') {
      this.#extent = report.extent;
      return;
    }
    if (report.kind === 'joined') {
      this.#fd = report.fd;
      // One that was told to end before it had anything to wait on.
      if (this.#isClosing && this.#fd !== null) interrupt(this.#fd);
    }
    if (report.kind === 'answering') this.#trapFd = report.fd;
    const waiter = this.#waiters.get(report.kind)?.shift();
    if (waiter !== undefined) {
      waiter.resolve(report);
      return;
    }
    const unasked = this.#unasked.get(report.kind) ?? [];
    unasked.push(report);
    this.#unasked.set(report.kind, unasked);
    if (unasked.length > UNASKED_MAX) {
      this.#fail(new MigError('RECORD_ORDER', `${report.kind}: the peer runs ahead`));
    }
  }
}
