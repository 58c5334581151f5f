/** A guest that a benchmark sends to and fro between the two hosts of a cluster. */
import type { EmbeddedStatus } from '../src/guest/driver.ts';
import type { MigrationEvent, MigrationResult } from '../src/migration/report.ts';
import type { MigrateOptions } from '../src/protocol/options.ts';
import type { Cluster } from '../test/process/cluster.ts';

export class Traveller {
  readonly #cluster: Cluster;
  readonly #vm: string;
  #isAtA = true;

  private constructor(cluster: Cluster, vm: string) {
    this.#cluster = cluster;
    this.#vm = vm;
  }

  /** `spec`: what `vm.create` takes, but the name. */
  static async create(cluster: Cluster, name: string, spec: object): Promise<Traveller> {
    await cluster.a.call('vm.create', { name, ...spec });
    return new Traveller(cluster, name);
  }

  /** Moves it to the other host. Throws when it does not get there. */
  async move(
    options: Partial<MigrateOptions> = {},
    hear?: (event: MigrationEvent) => void,
  ): Promise<MigrationResult> {
    const result = await this.attempt(options, hear);
    if (result.outcome !== 'completed') throw new Error(`${result.code}: ${result.detail}`);
    return result;
  }

  /** As `move`; where it stays, the result says why. Throws when the request itself is refused. */
  async attempt(
    options: Partial<MigrateOptions>,
    hear?: (event: MigrationEvent) => void,
  ): Promise<MigrationResult> {
    const to = this.#isAtA ? 'host-b' : 'host-a';
    const result = await this.#here.migrate(this.#vm, to, options, hear);
    if (result.outcome === 'completed') this.#isAtA = !this.#isAtA;
    return result;
  }

  /** Pages that its workload has written so far. */
  async writes(): Promise<number> {
    const { guest } = await this.#here.show(this.#vm);
    return (guest as unknown as EmbeddedStatus).registers.writes;
  }

  async delete(): Promise<void> {
    await this.#here.call('vm.delete', { name: this.#vm });
  }

  /** It takes no processor time until it is resumed. */
  async pause(): Promise<void> {
    await this.#here.call('vm.pause', { name: this.#vm });
  }

  async resume(): Promise<void> {
    await this.#here.call('vm.resume', { name: this.#vm });
  }

  get #here() {
    return this.#isAtA ? this.#cluster.a : this.#cluster.b;
  }
}
