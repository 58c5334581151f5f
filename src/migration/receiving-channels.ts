/** The channels of one incoming session: those of pages, and one for faults where pages may be left. */
import type { MigError } from '../protocol/error.ts';
import type { FaultHandlerChannel } from './data-plane/fault-channel.ts';
import type { DataReceiver } from './data-plane/receiver.ts';
import type { PullingChannels } from './paging/page-pull.ts';

export class ReceivingChannels {
  readonly receiver: DataReceiver;
  readonly #faults: FaultHandlerChannel | undefined;
  #isTaken = false;

  constructor(receiver: DataReceiver, faults: FaultHandlerChannel | undefined) {
    this.receiver = receiver;
    this.#faults = faults;
  }

  /** One a channel, the one for faults last. */
  get ports(): number[] {
    return [...this.receiver.ports, ...(this.#faults === undefined ? [] : [this.#faults.port])];
  }

  /** Every channel has its rightful peer. */
  get joined(): Promise<unknown> {
    return Promise.all([this.receiver.joined, this.#faults?.joined]);
  }

  /** Resolves with the first failure of any. */
  get failed(): Promise<MigError> {
    const { failed } = this.receiver;
    return this.#faults === undefined ? failed : Promise.race([failed, this.#faults.failed]);
  }

  /** For the pages that are still to come: whoever takes them closes them. */
  take(): PullingChannels | undefined {
    if (this.#faults === undefined) return undefined;
    this.#isTaken = true;
    return { receiver: this.receiver, faults: this.#faults };
  }

  /** Idempotent; those that were taken stay. */
  async close(): Promise<void> {
    if (!this.#isTaken) await Promise.all([this.receiver.close(), this.#faults?.close()]);
  }
}
