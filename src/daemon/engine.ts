/** Which engine this host's data channels have. */
import { rmSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import { PAGE_BYTES } from '../base/units.ts';
import { SharedMapping } from '../native/mapping.ts';
import { PageTrap } from '../native/page-trap.ts';
import { whyNotNative } from '../native/self-test.ts';
import { MigError } from '../protocol/error.ts';
import type { Engine } from '../transport/connection.ts';
import type { Config } from './config.ts';

/** Whether a guest can run here while its memory comes: tried, in memory as a guest's. */
export function canPostCopy(engine: Engine, memoryDir: string): boolean {
  if (engine !== 'native') return false;
  const file = path.join(memoryDir, `.probe-${process.pid}`);
  try {
    using mapping = SharedMapping.create(file, PAGE_BYTES);
    return PageTrap.isSupported(mapping);
  } catch {
    return false;
  } finally {
    rmSync(file, { force: true });
  }
}

/** The one that was asked for; `auto`: the native one where it can be used. Throws NATIVE_FAILED. */
export function chooseEngine(asked: Config['engine'], log: Logger): Engine {
  const why = asked === 'portable' ? 'not asked for' : whyNotNative();
  if (asked === 'native' && why !== undefined) throw new MigError('NATIVE_FAILED', why);
  const engine = why === undefined ? 'native' : 'portable';
  if (asked === 'auto' && why !== undefined) log.warn({ engine, why }, 'data channels are slower');
  return engine;
}
