/**
 * The source's real machine in its rounds, over a pretend link and with a pretend guest, in virtual
 * time: how long it takes, and what it says meanwhile.
 */
import { MiB, PAGE_BYTES } from '../../../src/base/units.ts';
import { migrateOptionsSchema } from '../../../src/protocol/options.ts';
import { stepSource } from '../../../src/protocol/source/machine.ts';
import type { Effect, Event, Plan, State } from '../../../src/protocol/source/state.ts';
import { dirtyCollected, MIGRATION_ID } from './samples.ts';

/** Progress is told this often, in ms. */
const TICK_MS = 50;
export const HANDOVER_MS = 10;

const tag = new Uint8Array(48);

export interface World {
  readonly memoryBytes: number;
  /** What the link carries, in bytes a second, at a time in ms. */
  readonly linkBps: (atMs: number) => number;
  /** What the guest writes, and over how much memory, evenly. */
  readonly writeBps: (atMs: number) => number;
  readonly workingSetBytes: number;
}

export interface Ended {
  /** When the VM runs at the destination, or it was given up. */
  readonly atMs: number;
  readonly state: State;
  readonly effects: readonly Effect[];
  readonly rounds: number;
}

export const planWith = (options: object): Plan => ({
  purpose: 'migrate',
  migrationId: MIGRATION_ID,
  from: 'host-a',
  options: migrateOptionsSchema.parse({ vm: 'vm1', to: 'host-b', ...options }),
  suites: [],
  forms: [],
  encodings: [],
  formats: [],
  resumes: true,
  nonce: tag,
  policyDigest: tag,
  epoch: 1,
  handoverMs: HANDOVER_MS,
  signedByPeer: () => true,
});

/** Where the rounds begin. */
export const joining = (plan: Plan): State => ({
  kind: 'JoiningChannels',
  plan,
  agreed: {
    suite: 'aes-256-gcm+hmac-sha256',
    form: 'tls',
    encodings: ['zero', 'raw'],
    channels: 1,
    resumes: true,
    postCopy: false,
  },
  subject: { migrationId: MIGRATION_ID, vmId: '', epoch: 1, from: 'host-a', to: 'host-b' },
  outage: null,
  round: 0,
});

class Simulation {
  readonly #world: World;
  readonly #plan: Plan;
  readonly effects: Effect[] = [];
  state: State;
  atMs = 100;
  #paceBps: number | null = null;
  #throttlePercent = 0;
  #collectedAtMs = 0;
  #owedBytes: number;

  constructor(world: World, options: object) {
    this.#world = world;
    this.#plan = planWith(options);
    this.state = joining(this.#plan);
    this.#owedBytes = world.memoryBytes;
  }

  run(): Ended {
    const { memoryBytes } = this.#world;
    const owedPages = memoryBytes / PAGE_BYTES;
    this.#give({ kind: 'channelsJoined', owedPages, elapsedMs: this.atMs });
    let rounds = 0;
    for (; this.state.kind === 'SendingRound'; rounds += 1) this.#round(this.state.round);
    const { effects, state } = this;
    if (state.kind === 'Pausing') this.atMs += this.#sendingMs(this.#owedBytes) + HANDOVER_MS;
    return { atMs: this.atMs, state, effects, rounds };
  }

  #give(event: Event): void {
    const { state, effects } = stepSource(this.state, event);
    this.state = state;
    for (const effect of effects) {
      if (effect.kind === 'pace') this.#paceBps = effect.paceBps;
      if (effect.kind === 'throttle') this.#throttlePercent = effect.percent;
      if (effect.kind === 'sendRound') this.atMs += effect.afterMs;
    }
    this.effects.push(...effects);
  }

  /** What gets through now, in bytes a second. */
  get #bps(): number {
    const { maxBandwidthBps = Infinity } = this.#plan.options;
    return Math.min(this.#world.linkBps(this.atMs), this.#paceBps ?? Infinity, maxBandwidthBps);
  }

  #sendingMs = (bytes: number): number => (bytes / this.#bps) * 1000;

  #round(round: number): void {
    const startedAtMs = this.atMs;
    if (round === 0) this.#collectedAtMs = startedAtMs;
    const bytes = this.#owedBytes;
    for (let sent = 0; sent < bytes;) {
      const forMs = Math.min(TICK_MS, this.#sendingMs(bytes - sent));
      sent += (this.#bps * forMs) / 1000;
      this.atMs += forMs;
      const pages = Math.round(sent / PAGE_BYTES);
      const remainingPages = Math.round((bytes - sent) / PAGE_BYTES);
      const elapsedMs = this.atMs;
      this.#give({ kind: 'progressed', pages, bytesSent: sent, remainingPages, elapsedMs });
      // The last bit of a double.
      if (bytes - sent < 1) break;
    }
    // A round costs as much, whatever it sends.
    this.atMs += 1;
    const sent = { pages: Math.round(bytes / PAGE_BYTES), zeroPages: 0, bytesSent: bytes, tag };
    this.#give({ kind: 'roundSent', sent });
    this.#give({ kind: 'ROUND_OK', message: { type: 'ROUND_OK', round } });
    const windowMs = this.atMs - this.#collectedAtMs;
    this.#collectedAtMs = this.atMs;
    const dirtyPages = this.#dirtyPages(windowMs);
    this.#owedBytes = dirtyPages * PAGE_BYTES;
    const [roundMs, elapsedMs] = [this.atMs - startedAtMs, this.atMs];
    this.#give({ ...dirtyCollected(dirtyPages), roundMs, windowMs, elapsedMs });
  }

  /** Pages of the working set that random writes of so long hit at least once. */
  #dirtyPages(windowMs: number): number {
    const { workingSetBytes, writeBps } = this.#world;
    if (workingSetBytes === 0) return 0;
    const share = 1 - this.#throttlePercent / 100;
    const written = (writeBps(this.atMs) * share * windowMs) / 1000;
    return Math.round((workingSetBytes / PAGE_BYTES) * -Math.expm1(-written / workingSetBytes));
  }
}

export const simulate = (world: Partial<World>, options: object): Ended =>
  new Simulation(
    {
      memoryBytes: 1024 * MiB,
      linkBps: () => 1000e6,
      writeBps: () => 0,
      workingSetBytes: 0,
      ...world,
    },
    options,
  ).run();
