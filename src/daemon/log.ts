/**
 * The daemon's log: one JSON line an event. What must not be logged is not given to it; the names
 * redacted here are the second line of defence.
 */
import { pino, type Logger } from 'pino';
import { MigError } from '../protocol/error.ts';
import type { Config } from './config.ts';

const SECRET_NAMES = ['key', 'keyPem', 'secret', 'nonce', 'exporter', 'state', 'token'];

export function makeLog({
  name,
  logLevel,
  pretty,
}: Pick<Config, 'name' | 'logLevel' | 'pretty'>): Logger {
  return pino({
    level: logLevel,
    base: { host: name },
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: SECRET_NAMES.flatMap((secret) => [secret, `*.${secret}`]),
    serializers: {
      err: (error: unknown) => {
        const { code, detail } = MigError.from(error);
        return { code, detail };
      },
    },
    ...(pretty ? { transport: { target: 'pino-pretty' } } : {}),
  });
}
