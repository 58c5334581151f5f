/**
 * Two hosts, a network and an operator in virtual time: one run, from a VM that starts on one of them
 * to the last thing that happens. What goes wrong, and when, is chosen; see faults.ts.
 */
import type { Step } from '../../src/protocol/machine.ts';
import type { Change, VmRecord } from '../../src/store/records.ts';
import type { Build } from './build.ts';
import type { Choices } from './choices.ts';
import { Daemon } from './daemon.ts';
import { applied, Disk, EMPTY } from './disk.ts';
import { Facts, isRunning } from './facts.ts';
import { Faults } from './faults.ts';
import { Machine } from './machine.ts';
import { Network } from './network.ts';
import { Operator } from './operator.ts';
import { DESCRIPTOR } from './samples.ts';
import type { HostName } from './signature.ts';
import { ALWAYS, Time } from './time.ts';

/** Hears every step of every machine, and in words whatever else happens. */
export interface Observer {
  readonly stepped: (machine: string, state: string, event: string) => void;
  readonly noted?: ((atMs: number, host: string, what: string) => void) | undefined;
}

interface Kinded {
  readonly kind: string;
}

/** How long a host is away, in ms. */
const AWAY_MS = [10, 700, 20_000, 100_000] as const;

/** How long a host is away that seems lost for good, if it is not, in ms. */
const REPAIRED_MS = 150_000;

const CRASHES_OF_HOSTS_MAX = 2;

export class World {
  readonly build: Build;
  readonly choices: Choices;
  readonly faults: Faults;
  readonly time = new Time();
  readonly network: Network;
  readonly machines: Readonly<Record<HostName, Machine>>;
  readonly facts: Facts;
  readonly operator: Operator;
  readonly #observer: Observer;
  readonly #daemons = new Map<Machine, Daemon>();
  #crashesOfHosts = 0;
  steps = 0;

  constructor(build: Build, choices: Choices, observer: Observer) {
    this.build = build;
    this.choices = choices;
    this.#observer = observer;
    this.faults = new Faults(choices);
    this.network = new Network(
      this.time,
      this.faults,
      (name) => this.daemon(name),
      (what) => this.note('network', what),
    );
    this.machines = {
      'host-a': new Machine('host-a', new Disk(applied(EMPTY, { vm: NEW_VM }))),
      'host-b': new Machine('host-b', new Disk(EMPTY)),
    };
    this.facts = new Facts(this.machines);
    const first = this.machines['host-a'];
    const guest = {
      lifecycle: 'running' as const,
      content: 0,
      epoch: 1,
      lacks: 0,
      isAlive: true,
    };
    first.guest = guest;
    first.hasVtpm = true;
    this.facts.starts(first, guest);
    for (const machine of Object.values(this.machines)) this.#start(machine, false);
    this.operator = new Operator(this);
  }

  daemon(name: HostName): Daemon | undefined {
    return this.#daemons.get(this.machines[name]);
  }

  get daemons(): readonly Daemon[] {
    return [...this.#daemons.values()];
  }

  /** Where the VM runs. */
  get running(): Machine | undefined {
    return Object.values(this.machines).find(isRunning);
  }

  /** Lets the next thing happen, and looks whether all is well; false when there is none. */
  step(): boolean {
    this.steps += 1;
    if (!this.time.step()) return false;
    this.facts.check();
    return true;
  }

  after(delayMs: number, what: () => void): void {
    this.time.after(delayMs, ALWAYS, what);
  }

  /** Of the story that is told of a run. */
  note(host: string, what: string): void {
    this.#observer.noted?.(this.time.nowMs, host, what);
  }

  noteWrite(
    host: HostName,
    { vm, removeVm, migration }: Change,
    failure: string | undefined,
  ): void {
    if (this.#observer.noted === undefined) return;
    const ofVm = removeVm === undefined ? vm && `VM ${vm.state} (epoch ${vm.epoch})` : 'no VM';
    const ofMigration = migration && `${migration.migrationId} ${migration.state}`;
    const what = [ofVm, ofMigration].filter((part) => part !== undefined).join(', ');
    this.note(host, failure === undefined ? `on disk: ${what}` : `fails (${failure}): ${what}`);
  }

  stepped(
    host: HostName,
    machine: string,
    from: string,
    event: string,
    next: Step<Kinded, Kinded>,
  ) {
    const { state, effects } = next;
    this.#observer.stepped(machine, from, event);
    if (this.#observer.noted === undefined) return;
    const asked = effects.map(({ kind }) => kind).join(', ');
    this.note(host, `${machine}: ${from} –${event}→ ${state.kind}  [${asked}]`);
  }

  /** What may come between two effects. */
  beforeEffect(daemon: Daemon, effect: string): void {
    const { faults } = this;
    const { machine } = daemon;
    const crash = faults.happens('crash', 10);
    if (crash !== 0) {
      this.note(machine.name, `dies before ${effect}`);
      if (crash < 7) this.crash(machine);
      else this.crashHost(machine, crash === 9);
      return;
    }
    if (faults.happens('guest') !== 0) {
      this.after(faults.delayMs(), () => this.#killGuest(machine));
    }
    const request = faults.happens('operator', 3);
    if (request !== 0) this.after(1, () => this.operator.meddle(machine.name, request));
  }

  #killGuest(machine: Machine): void {
    if (this.faults.isStormy) this.#endGuest(machine, 'its guest process dies');
  }

  /** An operator deletes a VM whose memory is lost at the other host. */
  deleteVm(machine: Machine): void {
    this.#endGuest(machine, 'the operator deletes it');
  }

  #endGuest(machine: Machine, how: string): void {
    const { guest } = machine;
    if (guest === undefined) return;
    this.note(machine.name, how);
    this.facts.dies(machine);
    this.#daemons.get(machine)?.guestGone(guest);
  }

  /** A daemon dies and is started again later; its guests live. */
  crash(machine: Machine): void {
    this.#end(machine);
    const awayMs = AWAY_MS[this.choices.below(AWAY_MS.length)] ?? 10;
    const isBlank = this.faults.happens('blank') !== 0;
    this.after(awayMs, () => this.#start(machine, isBlank));
  }

  /** A host dies, with all that was in memory; one that seems lost for good may come back after all. */
  crashHost(machine: Machine, isForGood: boolean): void {
    const isAloneLeft = Object.values(this.machines).every(({ isOff }) => !isOff);
    this.#crashesOfHosts += 1;
    if (this.#crashesOfHosts > CRASHES_OF_HOSTS_MAX) {
      this.crash(machine);
      return;
    }
    this.facts.dies(machine);
    if (isForGood && isAloneLeft) {
      machine.isOff = true;
      this.#end(machine);
      this.note(machine.name, 'seems lost for good');
      if (this.choices.below(2) === 1) this.after(REPAIRED_MS, () => this.repair(machine));
    } else {
      this.note(machine.name, 'its memory is lost');
      this.crash(machine);
    }
  }

  /** A host that seemed lost for good comes back, without what was in memory. */
  repair(machine: Machine): void {
    if (!machine.isOff) return;
    machine.isOff = false;
    this.#start(machine, false);
  }

  #end(machine: Machine): void {
    const daemon = this.#daemons.get(machine);
    if (daemon === undefined) return;
    daemon.isAlive = false;
    this.#daemons.delete(machine);
    // What it said last may still arrive.
    const isCut = this.choices.below(2) === 1;
    for (const end of daemon.ends) {
      if (isCut) end.cut();
      else end.close();
    }
    const { disk } = machine;
    disk.crash(disk.possible.length > 1 ? this.choices.below(disk.possible.length) : 0);
  }

  #start(machine: Machine, isBlank: boolean): void {
    const daemon = new Daemon(this, machine, isBlank);
    this.#daemons.set(machine, daemon);
    this.note(machine.name, isBlank ? 'starts, without its state directory' : 'starts');
    daemon.start();
    if (isBlank) {
      this.after(20_000, () => {
        if (daemon.isAlive) this.crash(machine);
      });
    }
  }
}

const NEW_VM: VmRecord = {
  name: DESCRIPTOR.name,
  vmId: DESCRIPTOR.vmId,
  epoch: 1,
  state: 'active',
  descriptor: DESCRIPTOR,
  migrationId: null,
  movedTo: null,
};
