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
/** Sessions of one migration that get to send pages: one that breaks this often would never end. */
export const SESSIONS_MAX = 64;
/** How long a broken session is tried to be followed by another, unless configured otherwise. */
export const RECONNECT_MS = 30_000;
/** How much longer a destination holds what came than it would try itself: it may hear of it later. */
export const HOLD_MARGIN_MS = 5_000;
/** The longest wait between two tries to set a session up again. */
export const RECONNECT_WAIT_MS_MAX = 2_000;
/** Wait for the peer's own word, or its end, when a data channel to it broke. */
export const PEERS_WORD_MS_MAX = 1_000;
/** Wait for the other host's next word of a handover: it may have to start a guest or destroy one. */
export const HANDOVER_WORD_MS_MAX = 60_000;
/** The first wait before a host in doubt asks again, and the longest. */
export const BACK_OFF_MS_MIN = 100;
export const BACK_OFF_MS_MAX = 30_000;
/** Words on a link that nobody answers yet; one more closes it. */
export const EARLY_WORDS_MAX = 4;
/** An operator is told that a migration is in doubt after this; most are settled sooner. */
export const IN_DOUBT_ANSWER_MS_MAX = 5_000;
/** What a step of priority is worth: who waits so long is as one who came just now with one more. */
export const PRIORITY_STEP_MS = 30_000;
/** The first wait before a destination that takes no further migration is asked again, and the longest. */
export const BUSY_WAIT_MS_MIN = 500;
export const BUSY_WAIT_MS_MAX = 30_000;
/** How long a request goes on asking such a destination, unless configured otherwise. */
export const BUSY_MS = 300_000;
/** What a host's bandwidth must be for each migration that may leave at once: the least share keeps channels alive. */
export const OUTGOING_BPS_MIN = 2 * 1024 * 1024;
/** How often it is seen which migration uses less than its share of a host's bandwidth. */
export const SHARES_REVIEW_MS = 500;
/** Events of one migration kept for a `watch` that comes late. */
export const EVENTS_REMEMBERED = 256;

// Daemon

/** Connections of peers and operators at once, those still in their handshake included. */
export const CONNECTIONS_MAX = 256;
/** How long a stopping daemon waits for migrations that it may not abort. */
export const STOP_MS_MAX = 30_000;

// Data plane (src/crypto, src/pages, src/transport, src/migration/data-plane)

/** Records under one key; then KEY_EXHAUSTED. Far below where AES-GCM with counted nonces wears out. */
export const RECORDS_PER_KEY_MAX = 2 ** 32;
/** Page data in one `pages` record that we send: large enough to amortise, small enough for caches. */
export const BATCH_DATA_BYTES_MAX = 512 * 1024;
/** Runs in one `pages` record: every second page zero, and as many zero runs again. */
export const BATCH_RUNS_MAX = 256;
/** Pages that one `demand` record may ask for: a guest waits for one page a thread. */
export const DEMAND_PAGES_MAX = 64;
/** Pages that one record may stand for: bounds the work that a small record of zero runs causes. */
export const BATCH_PAGES_MAX = 64 * 1024;
/** Pages that one compressed frame may stand for: bounds what a small record expands to at a time. */
export const FRAME_PAGES_MAX = 128;
/** What a frame may have beyond its pages, where nothing could be compressed. */
export const FRAME_OVERHEAD_BYTES_MAX = 1024;
/** Contents that a channel remembers of the pages it has sent in a round, by their digests. */
export const SENT_CONTENTS_MAX = 8192;
/** Pages that a daemon's channels together keep as they sent them, to send what changes in them. */
export const SENT_VERSIONS_BYTES_MAX = 24 * 1024 * 1024;
/** Plaintext of a record that we accept. */
export const RECORD_BYTES_MAX = 2 * 1024 * 1024;
/** Sealed bytes waiting in a channel's socket before the next record is sealed. */
export const CHANNEL_QUEUE_BYTES_MAX = 1024 * 1024;
/** A channel on which nothing moved for this long, in the middle of something, is dead. */
export const CHANNEL_SILENCE_MS_MAX = 15_000;
/** Wait for one data connection: TCP, TLS and JOIN. */
export const JOIN_MS_MAX = 10_000;
/** Wait of a data listener for its rightful peer. */
export const JOIN_WAIT_MS_MAX = 60_000;
/** Connections to a data listener that have not joined yet; one more drops the oldest. */
export const JOIN_PENDING_MAX = 8;
/** A worker that was asked to close is terminated after this. */
export const WORKER_CLOSE_MS_MAX = 2_000;
/** Start of a worker thread: loading its modules, on a machine with much else to do. */
export const WORKER_START_MS_MAX = 30_000;
/** Digest of all memory: 1 TiB at 1 GB/s, and to spare. */
export const MEMORY_DIGEST_MS_MAX = 30 * 60_000;

// Guest (src/guest)

/** A vCPU acknowledges a pause between two operations: microseconds; a loaded machine takes longer. */
export const GUEST_ACKNOWLEDGE_MS_MAX = 5_000;
/** Initial content of a new guest: 64 GiB at 1 GB/s, and to spare. */
export const GUEST_BOOT_MS_MAX = 120_000;
/** Start of a guest process up to its first word; reserving memory is part of it. */
export const GUEST_START_MS_MAX = 60_000;
/** A guest that is found again and says nothing for so long is not destroyed, but not ours to ask. */
export const GUEST_ATTACH_MS_MAX = 5_000;
/** One request to a guest's agent. */
export const GUEST_REQUEST_MS_MAX = 60_000;
/** What a guest process may say when it is ready, or why it is not. */
export const GUEST_WORD_CHARS_MAX = 64 * 1024;
/** What a guest may say about a failure of its own. */
export const GUEST_DETAIL_CHARS_MAX = 1000;
/** A guest process that was asked to end is killed after this. */
export const GUEST_QUIT_MS_MAX = 2_000;

// QEMU (src/guest/qemu)

/** QEMU or swtpm says its version. */
export const QEMU_VERSION_MS_MAX = 10_000;
/** One line of QMP; the largest honest one, `query-qmp-schema`, is a quarter of it. */
export const QMP_LINE_BYTES_MAX = 1024 * 1024;
/** The name of an event. */
export const QMP_EVENT_CHARS_MAX = 64;
/** Wait for a QEMU to answer a command: it answers between two turns of its main loop. */
export const QMP_COMMAND_MS_MAX = 15_000;

// Control API (src/daemon/api)

/** A request of an operator. */
export const API_FRAME_BYTES_MAX = 64 * 1024;
/** Requests of one connection under way at once. */
export const API_REQUESTS_MAX = 64;
/** Bytes waiting for a caller that does not read; then it is dropped. */
export const API_BACKLOG_BYTES_MAX = 4 * 1024 * 1024;
