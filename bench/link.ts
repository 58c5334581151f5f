/**
 * A link of a known rate: loopback of a network namespace of its own behind a token bucket, with all of
 * a benchmark's processes in it. Needs root, `iproute2` and `util-linux`.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

export interface Link {
  readonly name: string;
  readonly bitsPerSecond: number;
}

export const GIGABIT: Link = { name: '1 Gb/s', bitsPerSecond: 1e9 };
export const TEN_GIGABIT: Link = { name: '10 Gb/s', bitsPerSecond: 1e10 };

/** A packet of loopback is 64 KiB; a fast link needs room for what passes between two ticks of a clock. */
const BURST_BYTES_MIN = 128 * 1024;
const TICK_S = 0.004;
const QUEUE_MS = 50;

const setUp = ({ bitsPerSecond }: Link): string => {
  const burst = Math.max(BURST_BYTES_MIN, Math.ceil((bitsPerSecond / 8) * TICK_S));
  const bucket = `rate ${bitsPerSecond}bit burst ${burst} latency ${QUEUE_MS}ms`;
  return `ip link set lo up && tc qdisc add dev lo root tbf ${bucket} && exec "$@"`;
};

/** Runs a program of Node's behind the link; what it sends with `process.send` last is the result. */
export async function behind<T>(link: Link, program: string, args: readonly string[]): Promise<T> {
  const node = [process.execPath, '--no-warnings', program, ...args];
  const child = spawn('unshare', ['--net', 'sh', '-c', setUp(link), 'sh', ...node], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  let result: T | undefined;
  child.on('message', (said) => {
    result = said as T;
  });
  const [status] = (await once(child, 'exit')) as [number | null];
  if (result === undefined) throw new Error(`behind ${link.name}: ended with ${status}`);
  return result;
}
