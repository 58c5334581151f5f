/**
 * A pretend operator: migrates the VM from wherever it runs, there and back again; cancels, asks for
 * settlement, and states that a host was fenced only when it is lost for good.
 */
import type { Daemon } from './daemon.ts';
import { otherThan, type HostName } from './signature.ts';
import type { World } from './world.ts';

/** How long until the next look, in ms. */
const PAUSE_MS = [40, 3_000, 60_000] as const;

/** Looks at most, whether or not a migration could be begun. */
const LOOKS_MAX = 12;

export class Operator {
  readonly #world: World;
  #left: number;
  #looks = 0;
  #count = 0;
  readonly #open = new Map<string, Daemon>();
  /** Nothing more is wished. */
  isDone = false;

  constructor(world: World) {
    this.#world = world;
    this.#left = 1 + world.choices.rarely(0.5, 3);
    this.#look();
  }

  /** Requests that have had no answer, of daemons that live. */
  get unanswered(): readonly string[] {
    return [...this.#open].filter(([, { isAlive }]) => isAlive).map(([request]) => request);
  }

  /** Begins a migration from wherever the VM runs. Returns whether there is one. */
  migrate(): boolean {
    const { running } = this.#world;
    const daemon = running && this.#world.daemon(running.name);
    if (daemon?.canMigrate !== true) return false;
    if (running?.guest?.lacks !== 0)
      this.#world.facts.break('no loss: it goes on before it is whole');
    this.#count += 1;
    const migrationId = `migration-${this.#count}`;
    this.#world.note(daemon.name, `${migrationId} to ${otherThan(daemon.name)}`);
    this.#open.set(migrationId, daemon);
    daemon.migrate(migrationId, () => this.#open.delete(migrationId));
    return true;
  }

  /** In between: cancels, or asks now. */
  meddle(name: HostName, request: number): void {
    const daemon = this.#world.daemon(name);
    if (daemon === undefined || daemon.isBusy || !this.#world.faults.isStormy) return;
    if (request === 1) {
      this.#world.note(name, 'the operator cancels');
      for (const session of daemon.outgoing) session.cancel('CANCELLED');
    } else {
      this.#world.note(name, 'the operator asks to settle');
      for (const handover of daemon.handovers.values()) handover.askNow();
    }
  }

  /** States that the other host was fenced, which is true, wherever a handover waits for it. */
  fence(): void {
    for (const daemon of this.#world.daemons) {
      if (!this.#world.machines[otherThan(daemon.name)].isOff || daemon.isBusy) continue;
      this.#world.note(daemon.name, 'the operator states that the other host is fenced');
      for (const [migrationId, handover] of daemon.handovers) {
        const { direction, destroying } = daemon.recordOf(migrationId) ?? {};
        const isIncoming = direction === 'incoming';
        // What is not here any more, or not for long, cannot be run here.
        if (destroying !== undefined) continue;
        if (isIncoming || daemon.machine.guest !== undefined) handover.fence();
        daemon.fenceSource(migrationId);
      }
    }
  }

  #look(): void {
    this.#looks += 1;
    if (this.#left === 0 || this.#looks > LOOKS_MAX) {
      this.isDone = true;
      return;
    }
    if (this.migrate()) this.#left -= 1;
    else if (this.#world.choices.below(2) === 0) this.fence();
    const pauseMs = PAUSE_MS[this.#world.choices.below(PAUSE_MS.length)] ?? 40;
    this.#world.after(pauseMs, () => this.#look());
  }
}
