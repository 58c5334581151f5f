/** A valid message of every type, for codecs and machines. */
import type { Event as SourceEvent } from '../../../src/protocol/source/state.ts';
import type { VmDescriptor } from '../../../src/protocol/descriptor.ts';
import type { Message } from '../../../src/protocol/messages.ts';

export const MIGRATION_ID = '01980000-0000-7000-8000-000000000001';

export const descriptor = (): VmDescriptor => ({
  vmId: '2f1b6f0e-6a7a-4b0e-9d5c-0123456789ab',
  name: 'vm1',
  driver: 'ram',
  pageBytes: 4096,
  regions: [{ id: 0, bytes: 64 << 20 }],
  vcpus: 2,
  workload: { kind: 'writer', rateBps: 50e6, workingSetBytes: 16 << 20 },
  imageBytes: 0,
  devices: ['cpu'],
  stateBytesMax: 1 << 20,
  vtpm: { kind: 'software', ekFingerprint: 'ab'.repeat(32) },
});

const fill = (length: number): Uint8Array => new Uint8Array(length).fill(7);
const evidence = { format: 'software', body: fill(64) };
const refusal = { code: 'POLICY_DENIED', detail: 'because' };

export const MESSAGE_SAMPLES: readonly Message[] = [
  {
    type: 'HELLO',
    versionMin: 1,
    versionMax: 1,
    migrationId: MIGRATION_ID,
    to: 'host-b',
    suites: ['aes-256-gcm+hmac-sha256'],
    forms: ['tls'],
    encodings: ['zero', 'raw'],
    channels: 2,
    features: [],
  },
  {
    type: 'HELLO_OK',
    version: 1,
    suite: 'aes-256-gcm+hmac-sha256',
    form: 'tls',
    encodings: ['zero', 'raw'],
    channels: 2,
    features: [],
  },
  {
    type: 'ATT_REQUEST',
    nonce: fill(32),
    formats: ['software'],
    pcrSelection: [0, 7],
    policyDigest: fill(48),
  },
  {
    type: 'ATT_EVIDENCE',
    evidence,
    nonce: fill(32),
    formats: ['software'],
    policyDigest: fill(48),
  },
  { type: 'SVR_ATT_OK', evidence },
  { type: 'SVR_ATT_FAILED', ...refusal },
  { type: 'CLI_ATT_OK' },
  { type: 'CLI_ATT_FAILED', ...refusal },
  { type: 'OFFER', descriptor: descriptor(), epoch: 1, policyDigest: fill(48), verify: true },
  {
    type: 'ACCEPT',
    reservation: '2f1b6f0e-6a7a-4b0e-9d5c-0123456789ac',
    ports: [7001, 7002],
    resume: null,
  },
  { type: 'REFUSED', ...refusal },
  { type: 'ROUND_END', round: 0, pages: 10, zeroPages: 3, bytes: 28_000, tag: fill(48) },
  { type: 'ROUND_OK', round: 0 },
  {
    type: 'FINAL',
    round: 3,
    transcriptDigest: fill(48),
    stateBytes: 5000,
    memoryDigest: fill(32),
    signature: fill(64),
  },
  { type: 'DONE', signature: fill(64) },
  { type: 'PULL', ports: [7000, 7001] },
  { type: 'SURRENDER', signature: fill(64) },
  { type: 'RUNNING', signature: fill(64) },
  { type: 'ACTIVATED', final: null, signature: fill(64) },
  {
    type: 'DELETED',
    deletion: { stateDigest: fill(48), filesDestroyed: 2, bytesOverwritten: 5000 },
    signature: fill(64),
  },
  { type: 'RESOLVE', migrationId: MIGRATION_ID },
  { type: 'UNKNOWN' },
  { type: 'ABORT', ...refusal, signature: fill(64) },
];

/** A round that took 10 ms has arrived, and left so much. */
export const dirtyCollected = (
  dirtyPages: number,
): Extract<SourceEvent, { kind: 'dirtyCollected' }> => ({
  kind: 'dirtyCollected',
  dirtyPages,
  deferredPages: 0,
  roundMs: 10,
  windowMs: 10,
  elapsedMs: 100,
});
