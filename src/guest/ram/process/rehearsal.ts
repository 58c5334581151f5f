/**
 * A guest process that was started ahead goes once through what it will do when it counts: a tiny
 * guest is asked everything that a migration asks, so that no code runs for the first time while a
 * real guest stands still. Nothing is left of it.
 */
import { randomUUID } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Worker } from 'node:worker_threads';
import { MiB } from '../../../base/units.ts';
import { encodeFrame, FrameDecoder } from '../agent-protocol.ts';
import { answerTo } from './agent.ts';
import { assemble } from './assemble.ts';

/** The first time loads code, the next ones let the compiler see it again. */
const TIMES = 3;

const ASKED = [
  { op: 'status' },
  { op: 'trackDirty' },
  { op: 'collectDirty', into: 'replace' },
  { op: 'hold' },
  { op: 'exportState' },
  { op: 'importState' },
  { op: 'describe' },
  { op: 'untrackDirty' },
];

/** Makes `dir` and removes it. Never throws: a rehearsal that fails costs time later and nothing else. */
export async function rehearse(dir: string): Promise<void> {
  try {
    mkdirSync(dir, { mode: 0o700 });
    using tiny = assemble(
      {
        name: 'rehearsal',
        vmId: randomUUID(),
        start: 'incoming',
        memoryDir: dir,
        vtpmDir: path.join(dir, 'vtpm'),
        logPath: path.join(dir, 'log'),
        ramBytes: MiB,
        vcpus: 1,
        workload: { kind: 'idle' },
        fill: 0,
        imagePath: null,
        imageBytes: 0,
        dirtyTracking: 'auto',
        extendMs: 1000,
      },
      noThread,
    );
    const requests = Array.from({ length: TIMES }, () => ASKED).flat();
    for (const [id, asked] of requests.entries()) {
      const [frame] = new FrameDecoder().push(encodeFrame({ ...asked, id }));
      encodeFrame(await answerTo(tiny.machine, frame, () => undefined));
    }
  } catch {
    // Without a folder for it, say.
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function noThread(): Worker {
  throw new Error('nothing runs in a rehearsal');
}
