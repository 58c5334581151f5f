/**
 * The runner of the daemon under test: says the name of each step on descriptor 3, before and after the
 * effect is carried out, and waits there for a byte. The wait blocks the whole daemon: nothing of it
 * goes on, as when it were killed at that instant.
 */
import { readSync, writeSync } from 'node:fs';
import { stepDestination } from '../../../src/protocol/destination/machine.ts';
import { stepDestinationHandover } from '../../../src/protocol/handover/destination.ts';
import { stepSourceHandover } from '../../../src/protocol/handover/source.ts';
import { stepSource } from '../../../src/protocol/source/machine.ts';
import { Runner as RealRunner } from '../../../src/migration/runner.ts';
import type { Machine, When } from './conductor.ts';

export * from '../../../src/migration/runner.ts';

const LINK = 3;

const MACHINES: ReadonlyMap<unknown, Machine> = new Map<unknown, Machine>([
  [stepSource, 'source'],
  [stepDestination, 'destination'],
  [stepSourceHandover, 'source-handover'],
  [stepDestinationHandover, 'destination-handover'],
]);

interface Kinded {
  readonly kind: string;
  readonly message?: { readonly type: string };
}

type Input<S extends Kinded, E extends Kinded, F extends Kinded> = ConstructorParameters<
  typeof RealRunner<S, E, F>
>[0];

export class Runner<S extends Kinded, E extends Kinded, F extends Kinded> extends RealRunner<
  S,
  E,
  F
> {
  constructor(input: Input<S, E, F>) {
    const machine = MACHINES.get(input.step);
    if (machine === undefined) throw new Error('a machine that the tests do not know');
    super({
      ...input,
      perform: (effect) => {
        const { kind, message } = effect;
        const step = `${machine}.${kind}${message === undefined ? '' : `:${message.type}`}`;
        stop('before', step);
        const yielded = input.perform(effect);
        if (!(yielded instanceof Promise)) {
          stop('after', step);
          return yielded;
        }
        return yielded.then((event) => {
          stop('after', step);
          return event;
        });
      },
    });
  }
}

function stop(when: When, step: string): void {
  try {
    writeSync(LINK, `${when} ${step}\n`);
    if (readSync(LINK, new Uint8Array(1)) === 1) return;
  } catch {
    // As at the end of the file.
  }
  // The test is gone.
  process.exit(1);
}
