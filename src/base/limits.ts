/**
 * Every named bound of the project, one section a folder. A bound is tested at its value and one past it.
 */

// src/vtpm
/** PCRs in each bank (TPM 2.0 PC Client platform profile: 24). */
export const VTPM_PCR_COUNT = 24;
/** Event data of one pcr-event, as TPM2B_EVENT (TPM 2.0 Part 2 §10.4.8). */
export const VTPM_EVENT_BYTES_MAX = 1024;
/** Qualifying data of a quote: the largest digest. */
export const VTPM_NONCE_BYTES_MAX = 64;
export const VTPM_NV_INDEX_COUNT_MAX = 64;
/** Contents of one ordinary NV index. */
export const VTPM_NV_INDEX_BYTES_MAX = 2048;
/** Counters stay exact as JavaScript numbers; one increment a microsecond reaches this in 285 years. */
export const VTPM_COUNTER_MAX = Number.MAX_SAFE_INTEGER;
/** One serialised vTPM: 64 full NV indexes and everything else, rounded up. */
export const VTPM_STATE_BYTES_MAX = 160 * 1024;
/** What a refused command may say about itself. */
export const VTPM_DETAIL_CHARS_MAX = 200;
/**
 * Every bound of the system that is not a property of a format: queues, messages, waits, retries.
 * One file, so that they can be read together; each has a test at the bound and one past it.
 */

// Control channel

/** A control message; the largest honest ones are an offer and evidence with an event log. */
export const MESSAGE_BYTES_MAX = 256 * 1024;
/** Wait for TCP and TLS with the other host. */
export const CONNECT_MS_MAX = 10_000;
/** Wait for the peer's next message where it only has to think. */
export const REPLY_MS_MAX = 15_000;
/** Wait for admission: the peer reserves memory and starts a guest process. */
export const ADMISSION_MS_MAX = 60_000;
/** A connection on which nothing, not even a pong, was heard for this long is dead. */
export const PEER_SILENCE_MS_MAX = 10_000;

// Migration

/** Wait for the data plane to confirm what the control channel announced. */
export const ROUND_CONFIRM_MS_MAX = 120_000;
/** Wait for the guest's own work: pause, export, import, start. */
export const GUEST_WORK_MS_MAX = 60_000;
/** How long a prepared destination listens for the token before it is in doubt (it keeps all). */
export const SURRENDER_MS_MAX = 60_000;
/** Events of one migration kept for a `watch` that comes late. */
export const EVENTS_REMEMBERED = 256;

// Daemon

/** Connections of peers and operators at once, those still in their handshake included. */
export const CONNECTIONS_MAX = 256;
/** How long a stopping daemon waits for migrations that it may not abort. */
export const STOP_MS_MAX = 30_000;
