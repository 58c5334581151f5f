/** `npm run bench [-- NAME …]`: runs the benchmarks named, or all of them. */
import { convergence } from './convergence.ts';
import { deadline } from './deadline.ts';
import { downtime } from './downtime.ts';
import { fixedCost } from './fixed-cost.ts';
import { publish, type Report } from './report.ts';
import { resume } from './resume.ts';
import { scaling } from './scaling.ts';
import { slowLink } from './slow-link.ts';
import { suites } from './suites.ts';
import { throughput } from './throughput.ts';

const BENCHMARKS: Readonly<Record<string, () => Promise<Report>>> = {
  throughput,
  downtime,
  'fixed-cost': fixedCost,
  scaling,
  suites,
  deadline,
  convergence,
  'slow-link': slowLink,
  resume,
};

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !Object.hasOwn(BENCHMARKS, name));
if (unknown.length > 0) {
  console.error(
    `no benchmark ${unknown.join(', ')}; there are: ${Object.keys(BENCHMARKS).join(', ')}`,
  );
  process.exit(2);
}
for (const [name, run] of Object.entries(BENCHMARKS)) {
  if (asked.length === 0 || asked.includes(name)) publish(await run());
}
