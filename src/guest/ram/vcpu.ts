/**
 * The thread of one vCPU: waits for its input, writes the initial content once, then runs the workload
 * until the guest ends.
 */
import { parentPort } from 'node:worker_threads';
import { PAUSE, RUN } from './shared.ts';
import { VcpuContext, type VcpuInput } from './vcpu-context.ts';
import { tell } from './vcpu-word.ts';
import { runWorkload } from './workloads.ts';

parentPort?.once('message', (input: VcpuInput) => run(new VcpuContext(input)));

function run(context: VcpuContext): void {
  const { control } = context;
  const { vcpu } = context.input;
  // An incoming guest stands still here until its state has come.
  if (control.command !== RUN && !control.park(vcpu)) return;
  if (context.get('filled') === 0) {
    fill(context);
    context.set('filled', 1);
  }
  tell({ kind: 'booted' });
  runWorkload(context);
}

function fill(context: VcpuContext): void {
  const { vcpu, layout, fill: share } = context.input;
  const pages = Math.floor((layout.pages - layout.dataFirst) * share);
  for (const page of context.share(pages)) {
    context.rewrite(page);
    if (context.control.command === PAUSE) context.control.park(vcpu);
  }
}
