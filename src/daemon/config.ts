/**
 * The daemon's configuration: flags override the environment, which overrides the file; everything
 * is checked by one schema, and what is unknown or wrong is refused with its path.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { parse as parseYaml } from 'yaml';
import { EVIDENCE_FORMATS } from '../attestation/formats.ts';
import { BUSY_MS, OUTGOING_BPS_MIN, PEER_SILENCE_MS_MAX, RECONNECT_MS } from '../base/limits.ts';
import { GiB, MiB } from '../base/units.ts';
import { MigError } from '../protocol/error.ts';
import {
  CHANNEL_FORMS,
  ENCODING_NAMES,
  encodingSchema,
  channelFormSchema,
  nameSchema,
  SUITE_NAMES,
  suiteSchema,
} from '../protocol/options.ts';

const PORT_MAX = 65_535;
const addressSchema = z
  .string()
  .refine(
    (text) =>
      /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):\d{1,5}$/.test(text) &&
      Number(text.slice(text.lastIndexOf(':') + 1)) <= PORT_MAX,
    'expected ADDRESS:PORT',
  );
const port = z.number().int().min(1).max(PORT_MAX);

/** What may stand in the file. Every key has a default but those that name this host. */
export const configSchema = z.strictObject({
  role: z.enum(['source', 'dest', 'both']),
  name: nameSchema,
  listen: addressSchema,
  /** Where hosts of these names listen. */
  peers: z.record(nameSchema, addressSchema),
  certs: z.string().min(1),
  stateDir: z.string().min(1),
  /** On tmpfs: guests' memory. */
  memoryDir: z.string().min(1),
  /** Cipher suites that may be used, best first; the legacy ones only when they are named. */
  suites: z.array(suiteSchema).min(1),
  /** What may be around the records of a data channel, best first. */
  forms: z.array(channelFormSchema).min(1),
  /** How pages may be encoded; what a record's length tells of its pages, all but `raw` give away. */
  encodings: z
    .array(encodingSchema)
    .refine((names) => names.includes('raw'), 'expected raw among them'),
  /** How data channels are read and written; `auto`: by OpenSSL's own calls where those can be used. */
  engine: z.enum(['auto', 'native', 'portable']),
  attestation: z.strictObject({
    /** Formats of evidence that are accepted; `software` must be named to be. None: nobody is. */
    allow: z.array(z.enum(EVIDENCE_FORMATS)),
  }),
  /** Ports for incoming data channels, inclusive; any free port when absent. */
  dataPorts: z
    .strictObject({ from: port, to: port })
    .refine(({ from, to }) => from <= to, 'expected from ≤ to')
    .optional(),
  limits: z.strictObject({
    incomingMax: z.number().int().min(0).max(1000),
    /** Migrations that leave at once; further requests wait. */
    outgoingMax: z.number().int().min(1).max(1000),
    /** Of them, to one destination. */
    perPeerMax: z.number().int().min(1).max(1000),
    /** Requests that wait. */
    queueMax: z.number().int().min(0).max(10_000),
    /** How long a request asks a destination again that takes no further migration, in ms; 0: never. */
    busyMs: z.number().int().min(0).max(86_400_000),
    /** What all outgoing migrations together send, in bytes per second; absent: no limit. */
    bandwidthBps: z
      .number()
      .int()
      .min(MiB)
      .max(1024 * GiB)
      .optional(),
    /** RAM of all guests of this host together, in bytes. */
    memoryBytesMax: z.number().int().min(0),
    /** A peer that gave no sign of life for this long is gone, in ms. */
    peerSilenceMs: z.number().int().min(200).max(600_000),
    /** How long a migration whose connection broke tries to go on, in ms; 0: it ends at once. */
    reconnectMs: z.number().int().min(0).max(3_600_000),
  }),
  /** ADDRESS:PORT of /metrics, /healthz and /readyz, on loopback; absent: none. */
  metrics: addressSchema.optional(),
  /** Migrations from here compare every page on both sides when the request does not say. */
  verify: z.boolean(),
  /** Migrations from here may throttle the guest when the request does not say. */
  autoConverge: z.boolean(),
  /** A guest vm1 to play with, made when this host has no VM. */
  sampleGuest: z.boolean(),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error']),
  pretty: z.boolean(),
});
export type Config = z.infer<typeof configSchema>;

/** And as a whole. */
const wholeSchema = configSchema.refine(
  ({ limits: { bandwidthBps = Infinity, outgoingMax } }) =>
    bandwidthBps >= outgoingMax * OUTGOING_BPS_MIN,
  {
    path: ['limits', 'bandwidthBps'],
    message: `expected at least ${OUTGOING_BPS_MIN} for each of outgoingMax`,
  },
);

/** Keys as they come from one of the three places. */
export type Given = z.input<typeof givenSchema>;
const givenSchema = configSchema.extend({ limits: configSchema.shape.limits.partial() }).partial();

/**
 * The two hosts of the three terminals: they know each other, trust software evidence, and prove what
 * they claim: a first migration is `verified`.
 */
const SANDBOX: Readonly<Record<'source' | 'dest', Given>> = {
  source: { name: 'host-a', listen: '127.0.0.1:7442', sampleGuest: true, verify: true },
  dest: { name: 'host-b', listen: '127.0.0.1:7443' },
};
const SANDBOX_PEERS = { 'host-a': '127.0.0.1:7442', 'host-b': '127.0.0.1:7443' };

/**
 * The configuration from `flags`, `environment` (`MIGD_…`) and `file`. Throws CONFIG_INVALID with the
 * path of what is wrong and what was expected.
 */
export function resolveConfig(flags: Given, environment: NodeJS.ProcessEnv, file?: string): Config {
  const written = file === undefined ? {} : readFile(file);
  const given: Given = { ...written, ...fromEnvironment(environment), ...flags };
  const role = given.role ?? 'both';
  const sandbox = file === undefined && role !== 'both' ? SANDBOX[role] : {};
  const name = given.name ?? sandbox.name;
  const stateDir = path.resolve(given.stateDir ?? path.join('state', name ?? ''));
  const { limits, ...rest } = given;
  const merged = {
    role,
    peers: file === undefined && role !== 'both' ? SANDBOX_PEERS : {},
    certs: 'certs',
    memoryDir: path.join('/dev/shm', `migd-${process.getuid?.() ?? 0}-${shortHash(stateDir)}`),
    suites: [...SUITE_NAMES],
    forms: [...CHANNEL_FORMS],
    encodings: [...ENCODING_NAMES],
    engine: 'auto',
    ...(file === undefined && role !== 'both' ? { attestation: { allow: ['software'] } } : {}),
    verify: false,
    autoConverge: false,
    sampleGuest: false,
    logLevel: 'info',
    pretty: false,
    ...sandbox,
    ...rest,
    limits: {
      incomingMax: 8,
      outgoingMax: 4,
      perPeerMax: 2,
      queueMax: 100,
      busyMs: BUSY_MS,
      memoryBytesMax: 1024 * GiB,
      peerSilenceMs: PEER_SILENCE_MS_MAX,
      reconnectMs: RECONNECT_MS,
      ...limits,
    },
    stateDir,
  };
  const parsed = wholeSchema.safeParse(merged);
  if (!parsed.success) throw invalid(parsed.error);
  return parsed.data;
}

function readFile(file: string): Given {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new MigError('CONFIG_INVALID', `${file} cannot be read`, { cause });
  }
  let value: unknown;
  try {
    value = parseYaml(text);
  } catch (cause) {
    throw new MigError('CONFIG_INVALID', `${file}: ${(cause as Error).message}`, { cause });
  }
  const parsed = givenSchema.safeParse(value ?? {});
  if (!parsed.success) throw invalid(parsed.error, `${file}: `);
  return parsed.data;
}

const ENVIRONMENT: Readonly<Record<string, keyof Given>> = {
  MIGD_ROLE: 'role',
  MIGD_NAME: 'name',
  MIGD_LISTEN: 'listen',
  MIGD_CERTS: 'certs',
  MIGD_STATE_DIR: 'stateDir',
  MIGD_MEMORY_DIR: 'memoryDir',
  MIGD_METRICS: 'metrics',
  MIGD_LOG_LEVEL: 'logLevel',
};

function fromEnvironment(environment: NodeJS.ProcessEnv): Given {
  const found = Object.entries(ENVIRONMENT).flatMap(([variable, key]) =>
    environment[variable] === undefined ? [] : [[key, environment[variable]]],
  );
  const parsed = givenSchema.safeParse(Object.fromEntries(found));
  if (!parsed.success) throw invalid(parsed.error, 'environment: ');
  return parsed.data;
}

const invalid = (error: z.ZodError, prefix = ''): MigError => {
  const all = error.issues.map(({ path: at, message }) => `${at.join('.') || '(top)'}: ${message}`);
  return new MigError('CONFIG_INVALID', prefix + all.join('; '));
};

const shortHash = (text: string): string =>
  createHash('sha256').update(text).digest('hex').slice(0, 12);
