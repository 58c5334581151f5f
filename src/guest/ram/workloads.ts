/** The workloads that write pages: one line each in the table, none knows that it is being moved. */
import { PAGE_BYTES } from '../../base/units.ts';
import type { Workload } from '../../protocol/descriptor.ts';
import { serveKv } from './kv-workload.ts';
import { PAYLOAD_WORDS } from './self-checking.ts';
import type { VcpuContext } from './vcpu-context.ts';

type WorkloadOf<K extends Workload['kind']> = Extract<Workload, { kind: K }>;

/** Pages due after `ms` at `rateBps` shared by all vCPUs; carries the fraction over. */
function pacer(rateBps: number, vcpus: number): (ms: number) => number {
  let due = 0;
  return (ms) => {
    due += (ms / 1000) * (rateBps / vcpus / PAGE_BYTES);
    const pages = Math.floor(due);
    due -= pages;
    return pages;
  };
}

/** Writes `choose()`n pages at the workload's rate. */
function writing(context: VcpuContext, rateBps: number, choose: () => number, kept = 0): void {
  const { vcpu, vcpus, layout } = context.input;
  const mine = Math.ceil((layout.workingPages - vcpu) / vcpus);
  const pages = pacer(mine > 0 ? rateBps : 0, vcpus);
  context.loop((ms) => {
    for (let n = pages(ms); n > 0; n -= 1) {
      context.rewrite(layout.dataFirst + vcpu + choose() * vcpus, kept);
    }
  });
}

const greatestCommonDivisor = (a: number, b: number): number =>
  b === 0 ? a : greatestCommonDivisor(b, a % b);

/** A step that leads from 0 round all of [0, n), in leaps; times any number below n it is exact. */
function stepThrough(n: number): number {
  let step = Math.max(Math.min(Math.floor(n * 0.618), 2 ** 24), 1);
  while (greatestCommonDivisor(step, n) !== 1) step -= 1;
  return step;
}

/**
 * Pages in [0, n), the page of rank r with weight 1 / (r + 1) ** skew: the inverse of the cumulated
 * weights by bisection. `skew` 0 is uniform.
 */
function zipfSampler(n: number, skew: number, random: () => number): () => number {
  const cumulated = new Float64Array(n);
  const step = stepThrough(n);
  let sum = 0;
  for (let rank = 0; rank < n; rank += 1) {
    sum += 1 / (rank + 1) ** skew;
    cumulated[rank] = sum;
  }
  return () => {
    const wanted = random() * sum;
    let low = 0;
    let high = n - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((cumulated[middle] ?? 0) < wanted) low = middle + 1;
      else high = middle;
    }
    // Ranks are scattered over the pages, so that hot ones do not lie next to each other.
    return (low * step) % n;
  };
}

const share = ({ input: { vcpu, vcpus, layout } }: VcpuContext): number =>
  Math.ceil((layout.workingPages - vcpu) / vcpus);

const WORKLOADS: {
  readonly [K in Workload['kind']]: (context: VcpuContext, workload: WorkloadOf<K>) => void;
} = {
  idle: (context) => context.loop(() => undefined),
  writer: (context, { rateBps, changedBytes }) => {
    const mine = share(context);
    const kept = changedBytes === undefined ? 0 : PAYLOAD_WORDS - changedBytes / 4;
    writing(context, rateBps, () => Math.floor(context.random() * mine), kept);
  },
  zipf: (context, { rateBps, skew }) => {
    const mine = share(context);
    const sample = zipfSampler(Math.max(mine, 1), skew, () => context.random());
    writing(context, rateBps, sample);
  },
  kv: (context, workload) => {
    if (context.input.vcpu === 0) serveKv(context, workload.port);
    else context.loop(() => undefined);
  },
};

/** Runs the vCPU's part of the workload until it is told to stop. */
export function runWorkload(context: VcpuContext): void {
  const { workload } = context.input;
  const run = WORKLOADS[workload.kind] as (context: VcpuContext, workload: Workload) => void;
  run(context, workload);
}
