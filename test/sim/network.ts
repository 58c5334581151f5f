/**
 * Pretend control connections: messages arrive in order or not at all, late, and a connection may be
 * cut at any time, with what is on its way; each end hears of that in its own time.
 */
import type { Code } from '../../src/protocol/codes.ts';
import type { Message } from '../../src/protocol/messages.ts';
import { PEER_SILENCE_MS_MAX } from '../../src/base/limits.ts';
import type { Faults } from './faults.ts';
import { otherThan, type HostName } from './signature.ts';
import { ALWAYS, type Owner, type Time } from './time.ts';

export interface Ear {
  readonly message: (message: Message) => void;
  readonly closed: (code: Code, detail: string) => void;
}

const NOBODY: Ear = { message: () => undefined, closed: () => undefined };

/** One connection, as both of its ends have it. */
interface Wire {
  isCut: boolean;
  /** What the data channels of its session have carried, all in all. */
  content: number;
  /** Pages of it stay at the source until it runs at the destination. */
  leavesPages: boolean;
}

/** A daemon, as far as its connections know it. */
export interface Party extends Owner {
  readonly name: HostName;
  readonly isListening: boolean;
  readonly ends: Set<End>;
  receive(path: Path, end: End): void;
}

export type Path = 'migrate' | 'handover';

export class End {
  readonly peer: HostName;
  readonly wire: Wire;
  readonly #network: Network;
  readonly #owner: Party;
  #other: End | undefined;
  #ear = NOBODY;
  #isOpen = true;
  /** When all that was said on it so far has arrived. */
  #arrivedMs = 0;

  constructor(network: Network, owner: Party, wire: Wire) {
    this.#network = network;
    this.#owner = owner;
    this.wire = wire;
    this.peer = otherThan(owner.name);
    owner.ends.add(this);
  }

  static pair(network: Network, opener: Party, other: Party): readonly [End, End] {
    const wire: Wire = { isCut: false, content: 0, leavesPages: false };
    const near = new End(network, opener, wire);
    const far = new End(network, other, wire);
    near.#other = far;
    far.#other = near;
    return [near, far];
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  listen(ear: Ear): void {
    this.#ear = ear;
  }

  send(message: Message): void {
    if (!this.#isOpen || this.wire.isCut) return;
    const { faults } = this.#network;
    const fate = faults.happens('cut', 5);
    if (fate > 2) {
      this.#network.note(`${message.type} is lost`);
      this.cut();
      return;
    }
    this.#arrive(faults.delayMs(), (other) => other.#ear.message(message));
    // It arrives, and nothing after it.
    if (fate !== 0) this.#network.time.after(faults.delayMs(), ALWAYS, () => this.cut());
  }

  /** What was said before still arrives. */
  close(): void {
    if (!this.#isOpen) return;
    this.#end();
    this.#arrive(1, (other) => {
      other.#end();
      other.#ear.closed('PEER_CLOSED', '');
    });
  }

  /** Nothing arrives any more; each end hears of it at once, or by the silence. */
  cut(): void {
    if (this.wire.isCut) return;
    this.#network.note('a connection is cut');
    this.wire.isCut = true;
    for (const end of [this, this.#other]) if (end !== undefined) end.#hearOfCut();
  }

  #hearOfCut(): void {
    const isSilent = this.#network.faults.happens('slow') !== 0;
    const afterMs = isSilent ? PEER_SILENCE_MS_MAX : 1;
    this.#network.time.after(afterMs, this.#owner, () => {
      if (!this.#isOpen) return;
      this.#end();
      this.#ear.closed(isSilent ? 'PEER_SILENT' : 'PEER_CLOSED', 'cut');
    });
  }

  #end(): void {
    this.#isOpen = false;
    this.#owner.ends.delete(this);
  }

  #arrive(delayMs: number, what: (other: End) => void): void {
    const other = this.#other;
    if (other === undefined) return;
    const { time } = this.#network;
    this.#arrivedMs = Math.max(this.#arrivedMs, time.nowMs + delayMs);
    time.after(this.#arrivedMs - time.nowMs, other.#owner, () => {
      if (other.#isOpen && !this.wire.isCut) what(other);
    });
  }
}

/** How long nobody reaches anybody, in ms. */
const PARTED_MS = [0, 300, 20_000, 90_000] as const;

export class Network {
  readonly time: Time;
  readonly faults: Faults;
  readonly note: (what: string) => void;
  readonly #partyOf: (name: HostName) => Party | undefined;
  #partedUntilMs = 0;

  constructor(
    time: Time,
    faults: Faults,
    partyOf: (name: HostName) => Party | undefined,
    note: (what: string) => void,
  ) {
    this.time = time;
    this.faults = faults;
    this.#partyOf = partyOf;
    this.note = note;
  }

  /** Opens a connection to the other host; `opened` hears undefined when there is none. */
  open(opener: Party, path: Path, opened: (end: End | undefined) => void): void {
    const { time, faults } = this;
    const arrive = () => {
      const other = this.#partyOf(otherThan(opener.name));
      // Nobody is let in while it waits for its disk.
      if (other !== undefined && other.busyUntilMs > time.nowMs) {
        time.after(other.busyUntilMs - time.nowMs, opener, arrive);
        return;
      }
      const fate = faults.happens('cut', 6);
      if (fate > 2) this.#part(PARTED_MS[fate - 2] ?? 0);
      const isReached = time.nowMs >= this.#partedUntilMs && other?.isListening === true;
      if (fate === 1 || !isReached) {
        opened(undefined);
        return;
      }
      const [near, far] = End.pair(this, opener, other);
      other.receive(path, far);
      // The other side may know of a connection that its opener gave up.
      if (fate === 2) near.cut();
      time.after(1, opener, () => opened(near));
    };
    time.after(faults.delayMs(), opener, arrive);
  }

  /** Whether the other host can be reached now. */
  get isWhole(): boolean {
    return this.time.nowMs >= this.#partedUntilMs;
  }

  /** Whoever is there can be reached again. */
  mend(): void {
    this.#partedUntilMs = 0;
  }

  #part(forMs: number): void {
    this.note(`nobody reaches anybody for ${forMs} ms`);
    this.#partedUntilMs = this.time.nowMs + forMs;
    for (const name of ['host-a', 'host-b'] as const) {
      for (const end of this.#partyOf(name)?.ends ?? []) end.cut();
    }
  }
}
