/**
 * Shows a migration while it runs, in the form that suits standard output: a live block on a
 * terminal, plain lines into a pipe, JSON lines when asked. It knows nothing of how events come.
 */
import type { MigrationEvent, MigrationResult } from '../../migration/report.ts';
import { Lines } from './lines.ts';
import { after, drawn, NOTHING_SHOWN, redrawn } from './live.ts';
import { exitStatusOf, summary } from './summary.ts';

export interface Follower {
  hear(event: MigrationEvent): void;
  /** Shows the result; returns the exit status. */
  end(result: MigrationResult): number;
}

export function follower(json: boolean, out: NodeJS.WriteStream): Follower {
  if (json) return jsonFollower(out);
  return out.isTTY ? liveFollower(out) : lineFollower(out);
}

const jsonFollower = (out: NodeJS.WriteStream): Follower => ({
  hear: (event) => out.write(`${JSON.stringify(event)}\n`),
  end: (result) => {
    out.write(`${JSON.stringify(result)}\n`);
    return exitStatusOf(result);
  },
});

function lineFollower(out: NodeJS.WriteStream): Follower {
  const lines = new Lines();
  return {
    hear: (event) => {
      const line = lines.of(event);
      if (line !== undefined) out.write(`${line}\n`);
    },
    end: (result) => told(out, result),
  };
}

function liveFollower(out: NodeJS.WriteStream): Follower {
  let shown = NOTHING_SHOWN;
  let height = 0;
  return {
    hear: (event) => {
      shown = after(shown, event);
      const lines = drawn(shown).map((line) => line.slice(0, widthOf(out)));
      out.write(redrawn(height, lines));
      height = lines.length;
    },
    end: (result) => {
      out.write(redrawn(height, []));
      return told(out, result);
    },
  };
}

/** A line that wrapped would break the drawing. Some terminals do not know their width and say 0. */
const widthOf = ({ columns }: NodeJS.WriteStream): number => (columns > 0 ? columns : 80);

/** A result that is no success is an error: it goes where errors go. */
function told(out: NodeJS.WriteStream, result: MigrationResult): number {
  const stream = result.outcome === 'completed' ? out : process.stderr;
  stream.write(`${summary(result)}\n`);
  return exitStatusOf(result);
}
