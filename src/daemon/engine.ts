/** Which engine this host's data channels have. */
import type { Logger } from 'pino';
import { whyNotNative } from '../native/self-test.ts';
import { MigError } from '../protocol/error.ts';
import type { Engine } from '../transport/connection.ts';
import type { Config } from './config.ts';

/** The one that was asked for; `auto`: the native one where it can be used. Throws NATIVE_FAILED. */
export function chooseEngine(asked: Config['engine'], log: Logger): Engine {
  const why = asked === 'portable' ? 'not asked for' : whyNotNative();
  if (asked === 'native' && why !== undefined) throw new MigError('NATIVE_FAILED', why);
  const engine = why === undefined ? 'native' : 'portable';
  if (asked === 'auto' && why !== undefined) log.warn({ engine, why }, 'data channels are slower');
  return engine;
}
