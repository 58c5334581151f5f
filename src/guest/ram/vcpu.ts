/** The thread of one vCPU: initial content once, then the workload until the guest ends. */
import { workerData } from 'node:worker_threads';
import { PAUSE, RUN } from './shared.ts';
import { VcpuContext, type VcpuInput } from './vcpu-context.ts';
import { tell } from './vcpu-word.ts';
import { runWorkload } from './workloads.ts';

const context = new VcpuContext(workerData as VcpuInput);
const { vcpu, layout, fill } = context.input;

// An incoming guest stands still here until its state has come.
if (context.control.command === RUN || context.control.park(vcpu)) {
  const pages = Math.floor((layout.pages - layout.dataFirst) * fill);
  if (context.get('filled') === 0) {
    for (const page of context.share(pages)) {
      context.rewrite(page);
      if (context.control.command === PAUSE) context.control.park(vcpu);
    }
    context.set('filled', 1);
  }
  tell({ kind: 'booted' });
  runWorkload(context);
}
