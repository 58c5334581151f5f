/** A run in words, one line a happening. */
import type { Build } from './build.ts';
import { Choices, type Script } from './choices.ts';
import { run } from './run.ts';

export function trace(script: Script, build: Build): readonly string[] {
  const lines: string[] = [];
  const noted = (atMs: number, host: string, what: string) => {
    lines.push(`${atMs.toFixed(1).padStart(11)} ms  ${host.padEnd(7)}  ${what}`);
  };
  const { broken } = run(Choices.ofScript(script), build, { stepped: () => undefined, noted });
  return [...lines, broken === undefined ? 'all is well' : `BROKEN: ${broken}`];
}

/** As the option `--script` takes it. */
export const scriptText = (script: Script): string =>
  [...script].map(([position, value]) => `${position}=${value}`).join(',');

/** Throws RangeError. */
export function parseScript(text: string): Script {
  return new Map(
    text.split(',').map((entry) => {
      const [position = Number.NaN, value = Number.NaN] = entry.split('=').map(Number);
      if (!Number.isInteger(position) || !Number.isInteger(value)) throw new RangeError(entry);
      return [position, value];
    }),
  );
}
