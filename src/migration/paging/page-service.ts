/**
 * The source's part of a post-copy: the guest runs at the destination, and what of its memory was left here
 * is sent: on demand, and all of it in the background. It goes on, session after session, until it is
 * closed, when the destination has said that it holds everything.
 */
import type { GuestMemory } from '../../guest/driver.ts';
import { MigError } from '../../protocol/error.ts';
import type { BackOff } from '../back-off.ts';
import { openAbsent } from '../data-plane/exchange-mapping.ts';
import type { FaultServerChannel } from '../data-plane/fault-channel.ts';
import { NO_EXTENT, sumExtents, type Extent } from '../data-plane/messages.ts';
import type { DataSender } from '../data-plane/sender.ts';

/** Of one session. */
export interface ServingChannels {
  readonly sender: DataSender;
  readonly faults: FaultServerChannel;
}

export interface PageServiceParts {
  readonly memory: GuestMemory;
  /** Sets up another session, in which the destination has said what it holds; until `signal`. */
  readonly reopen: (signal: AbortSignal) => Promise<ServingChannels>;
  /** Told of each session's sender: what it may send is not its own to say. */
  readonly opened: (sender: DataSender) => void;
  /** Between two tries. */
  readonly backOff: (due: () => void) => BackOff;
  /** Told of each failure that is not the one before. */
  readonly failed: (failure: MigError) => void;
}

/** What was sent, apart by why. */
export interface Served {
  readonly pushed: Extent;
  readonly demanded: Extent;
  /** How often the connection broke and another session went on. */
  readonly resumes: number;
}

export class PageService {
  readonly #parts: PageServiceParts;
  readonly #end = new AbortController();
  readonly #over = Promise.withResolvers<void>();
  #served: Served = { pushed: NO_EXTENT, demanded: NO_EXTENT, resumes: 0 };
  readonly #ended: Promise<void>;

  /** Serves on `first`, where there is a session; it closes the channels. */
  constructor(parts: PageServiceParts, first: ServingChannels | undefined) {
    this.#parts = parts;
    this.#ended = this.#serve(first);
  }

  get served(): Served {
    return this.#served;
  }

  /** Ends it; resolves when nothing of it reads the guest's memory any more. */
  close(): Promise<void> {
    this.#end.abort();
    this.#over.resolve();
    return this.#ended;
  }

  async #serve(first: ServingChannels | undefined): Promise<void> {
    let channels = first;
    while (!this.#end.signal.aborted) {
      channels ??= await this.#reopened();
      if (channels === undefined) break;
      await this.#session(channels);
      channels = undefined;
    }
  }

  /** One session, until it breaks or the service ends. */
  async #session({ sender, faults }: ServingChannels): Promise<void> {
    openAbsent(this.#parts.memory);
    this.#parts.opened(sender);
    sender.push();
    const failure = await Promise.race([sender.failed, faults.failed, this.#over.promise]);
    const [pushed, demanded] = await Promise.all([sender.closePushed(), faults.close()]);
    this.#served = {
      pushed: sumExtents([this.#served.pushed, pushed]),
      demanded: sumExtents([this.#served.demanded, demanded]),
      resumes: this.#served.resumes + (failure === undefined ? 0 : 1),
    };
    if (failure !== undefined) this.#parts.failed(failure);
  }

  async #reopened(): Promise<ServingChannels | undefined> {
    const { reopen, backOff, failed } = this.#parts;
    const { signal } = this.#end;
    const due = { now: Promise.withResolvers<void>() };
    const wait = backOff(() => due.now.resolve());
    try {
      while (!signal.aborted) {
        try {
          return await reopen(signal);
        } catch (thrown) {
          if (signal.aborted) return undefined;
          failed(MigError.from(thrown));
        }
        due.now = Promise.withResolvers();
        wait.wait();
        await Promise.race([due.now.promise, this.#over.promise]);
      }
      return undefined;
    } finally {
      wait.stop();
    }
  }
}
