/**
 * Every error code of the system, as one table: what happened, what to do, whose fault, whether the
 * same request may be tried again, and the exit status of `migctl`. `docs/codes.md`, metric labels
 * and exit statuses are made from it; a code is never removed or given another meaning.
 */

/** Exit statuses of `migctl` (docs: interfaces). */
export const EXIT = {
  completed: 0,
  failed: 1,
  usage: 2,
  refused: 3,
  cancelled: 4,
  inDoubt: 5,
  noDaemon: 6,
} as const;

export type Fault = 'operator' | 'peer' | 'host' | 'guest' | 'network' | 'bug';

export interface CodeEntry {
  /** One sentence: what happened. */
  readonly what: string;
  /** One sentence: what to do. */
  readonly remedy: string;
  readonly fault: Fault;
  /** Whether the same request may succeed when simply made again. */
  readonly retryable: boolean;
  readonly exit: (typeof EXIT)[keyof typeof EXIT];
}

const entry = (
  what: string,
  remedy: string,
  fault: Fault,
  retryable: boolean,
  exit: CodeEntry['exit'] = EXIT.failed,
): CodeEntry => ({ what, remedy, fault, retryable, exit });

const { failed, usage, refused, cancelled, inDoubt, noDaemon } = EXIT;

// prettier-ignore
export const CODES = {
  // The request
  USAGE: entry('The command line is not understood.', 'See `migctl --help`.', 'operator', false, usage),
  CONFIG_INVALID: entry('The configuration has an unknown or wrong key.', 'Correct the named key; `migd --check` validates without starting.', 'operator', false, usage),
  REQUEST_INVALID: entry('The request does not have the expected form.', 'Correct what is named; a `migctl` of another version than the daemon may ask what it does not know.', 'operator', false, usage),
  VM_UNKNOWN: entry('No VM of that name is on this host.', 'See `migctl vm list`; the VM may have moved: see `migctl history`.', 'operator', false, failed),
  VM_EXISTS: entry('A VM of that name is already on this host.', 'Choose another name or delete the old VM.', 'operator', false, failed),
  VM_STATE: entry('The VM is not in a state that allows this.', 'See `migctl vm show`.', 'operator', true, failed),
  HOST_UNKNOWN: entry('No host of that name is configured.', 'Add it under `peers` in the configuration; see `migctl hosts`.', 'operator', false, failed),
  HOST_SELF: entry('Source and destination are the same host.', 'Name another host with `--to`.', 'operator', false, usage),
  MIGRATION_UNKNOWN: entry('No migration with that id is known here.', 'See `migctl history`.', 'operator', false, failed),
  VM_MIGRATING: entry('The VM is already being migrated.', 'Wait for it, or cancel it: `migctl status`.', 'operator', true, failed),
  QUEUE_FULL: entry('As many migrations wait for their turn at this host as may.', 'Wait until some have ended: `migctl status`; or raise `limits.queueMax`.', 'operator', true, refused),
  ROLE_REFUSED: entry('This daemon does not play that role.', 'Start it with `--role both`.', 'operator', false, refused),
  CANCELLED: entry('The migration was cancelled; the VM runs at the source.', 'Nothing to do.', 'operator', true, cancelled),
  CANCEL_TOO_LATE: entry('The VM was already handed over.', 'Nothing to do: it runs at the destination.', 'operator', false, failed),
  NO_DAEMON: entry('No daemon answers.', 'Start `migd`, or name its host with `--host` or its socket with `--socket`.', 'operator', true, noDaemon),
  DAEMON_STOPPING: entry('The daemon is shutting down.', 'Try again when it is back.', 'host', true, failed),
  DAEMON_STOPPED: entry('The daemon ended in the middle of this; the VM runs at the source.', 'Try again.', 'host', true, failed),
  LISTEN_FAILED: entry('The daemon cannot listen on its address.', 'Choose another `--listen` address, or stop what uses it.', 'operator', false, failed),
  DAEMON_RUNNING: entry('Another daemon uses this state directory.', 'Stop it, or choose another `--state-dir`.', 'operator', false, failed),

  // Session
  PEER_UNREACHABLE: entry('The other host cannot be reached.', 'Check that its daemon runs and that its address is right.', 'network', true),
  PEER_SILENT: entry('The other host stopped answering within the limit.', 'Check the network and the other host, then try again.', 'network', true),
  PEER_CLOSED: entry('The other host closed the connection.', 'See the log of the other host.', 'peer', true),
  PEER_WRONG: entry('The peer is a valid host, but not the one named.', 'Check the address configured for that host; someone may redirect the connection.', 'peer', false, refused),
  CERT_INVALID: entry('The peer has no certificate of this migration CA that allows this use.', 'Issue one with `migctl pki issue`.', 'peer', false, refused),
  CERT_EXPIRED: entry('A certificate has expired or is not valid yet.', 'Issue a new one with `migctl pki issue`; check both clocks.', 'peer', false, refused),
  CERT_REVOKED: entry('The certificate was revoked.', 'Issue a new one if the host is to be trusted again.', 'peer', false, refused),
  PKI_MISSING: entry('Certificates or keys are missing or unreadable.', 'Run `migctl pki init`, or name the folder with `--certs`.', 'operator', false, usage),
  PKI_EXISTS: entry('There is a CA in that folder already.', 'Use it, or name another folder with `--certs`.', 'operator', false, usage),
  PKI_NAME_KIND: entry('That name cannot have a certificate of that kind.', 'Choose another name; see `migctl pki list`.', 'operator', false, usage),
  PKI_UNKNOWN: entry('No certificate of that name was issued here.', 'See `migctl pki list`.', 'operator', false, usage),
  PKI_BUSY: entry('Another command is changing that folder of certificates.', 'Try again; remove the lock file if no other `migctl pki` runs.', 'operator', true),
  VERSION_MISMATCH: entry('The hosts share no protocol version.', 'Upgrade the older daemon.', 'peer', false, refused),
  SUITE_MISMATCH: entry('The hosts share no permitted cipher suite.', 'Allow a common suite in both configurations.', 'peer', false, refused),
  FORM_MISMATCH: entry('The hosts share no permitted form of data channel.', 'Allow a common form in both configurations.', 'peer', false, refused),
  MESSAGE_MALFORMED: entry('A message does not have the form of its type.', 'Run the same version on both hosts; if it persists the peer is hostile.', 'peer', false),
  MESSAGE_TOO_LARGE: entry('A message is larger than its limit.', 'Run the same version on both hosts; if it persists the peer is hostile.', 'peer', false),
  MESSAGE_UNKNOWN: entry('A message has an unknown type.', 'Run the same version on both hosts.', 'peer', false),
  MESSAGE_UNEXPECTED: entry('A message came out of order.', 'Run the same version on both hosts; if it persists the peer is hostile.', 'peer', false),

  // Attestation
  ATT_FORMAT: entry('No common format of evidence is permitted.', 'Allow a common format in both configurations.', 'peer', false, refused),
  ATT_MALFORMED: entry('The evidence cannot be parsed.', 'Run the same version on both hosts; if it persists the peer is hostile.', 'peer', false, refused),
  ATT_NONCE_MISMATCH: entry('The evidence does not answer this challenge on this connection.', 'The evidence was replayed or relayed: do not trust that host until this is explained.', 'peer', false, refused),
  ATT_NOT_ALLOWED: entry('Evidence of that format is not permitted by policy.', 'Allow the format by name, or give the host a TPM.', 'operator', false, refused),

  // Admission
  POLICY_DENIED: entry('Policy does not permit this.', 'Ask who keeps the policy.', 'operator', false, refused),
  NAME_TAKEN: entry('The destination already has a VM of that name.', 'Rename or delete the other VM.', 'operator', false, refused),
  EPOCH_STALE: entry('The destination has seen a newer epoch of this VM.', 'This copy of the VM is old: it must not run again.', 'peer', false, refused),
  DEST_CAPACITY: entry('The destination has no room for the VM.', 'Free memory there or choose another host.', 'host', true, refused),
  DEST_BUSY: entry('The destination takes no further migration now.', 'Try again later.', 'host', true, refused),
  DESCRIPTOR_UNSUPPORTED: entry('The destination cannot run a VM of this kind.', 'Choose a host with the same driver and features.', 'operator', false, refused),

  MIGRATION_UNSUPPORTED: entry('VMs of that driver cannot be migrated.', 'Nothing was changed: the VM runs on.', 'operator', false, refused),
  POSTCOPY_UNSUPPORTED: entry('The destination cannot run a guest whose memory is still to come.', 'Migrate with `--mode pre-copy`, or give that host a kernel with userfaultfd minor faults (5.14) and `engine: native`.', 'host', false, refused),

  // Transfer
  CHANNEL_JOIN: entry('A data channel could not prove that it belongs to the session.', 'Try again; if it persists someone interferes with the network.', 'network', true),
  CHANNEL_LOST: entry('A data channel broke.', 'Check the network and try again.', 'network', true),
  RECORD_MALFORMED: entry('A data record does not have the expected form.', 'If it persists the peer is hostile.', 'peer', false),
  RECORD_FORGED: entry('A data record failed its integrity check.', 'Someone interferes with the network, or memory is faulty.', 'network', true),
  RECORD_ORDER: entry('A data record was missing, repeated or out of order.', 'Someone interferes with the network.', 'network', true),
  TRANSCRIPT_MISMATCH: entry('What arrived is not what was sent.', 'Try again; if it persists someone interferes.', 'network', true),
  SIGNATURE_INVALID: entry('A signed statement of the peer does not verify.', 'Do not trust that host until this is explained.', 'peer', false),
  VERIFY_MISMATCH: entry('The memory at the destination differs from the source.', 'Report this: it is a defect or faulty memory.', 'bug', true),
  NOT_CONVERGING: entry('The guest writes memory faster than it can be sent within the downtime limit.', 'Raise `--downtime-limit`, allow `--auto-converge`, or migrate when the guest is calmer.', 'guest', true),
  TIMEOUT: entry('The migration did not finish within the time given.', 'Raise `--timeout`.', 'operator', true),
  DEADLINE_INFEASIBLE: entry('The memory alone cannot be sent by the deadline.', 'Raise `--deadline` or `--max-bandwidth`.', 'operator', false, refused),
  KEY_EXHAUSTED: entry('A key reached its limit of records.', 'Report this: limits are far above any VM.', 'bug', false),

  // Guest, vTPM, host
  GUEST_FAILED: entry('The guest process did not do what it was asked to.', 'See the guest\'s log in the state directory.', 'guest', false),
  GUEST_SILENT: entry('The guest process did not answer within the limit.', 'See the guest\'s log in the state directory.', 'guest', true),
  QEMU_UNUSABLE: entry('QEMU or swtpm is missing on this host, or too old.', 'Install what is named (Debian: qemu-system-x86, swtpm) and have it in the PATH of `migd`.', 'host', false, refused),
  VM_UNSAFE: entry('This version of QEMU would damage such a VM.', 'Change what is named, or upgrade QEMU.', 'operator', false, refused),
  VTPM_FAILED: entry('The virtual TPM refused or failed.', 'See the log of the daemon.', 'host', false),
  STORE_FAILED: entry('The durable record could not be written or read.', 'Check the disk of the state directory.', 'host', true),
  STORE_UNCERTAIN: entry('Whether a durable record was written cannot be known.', 'Check the disk of the state directory.', 'host', true),
  NATIVE_FAILED: entry('A call into the system failed.', 'See the detail and the log of the daemon.', 'host', false),
  PAGES_OWED: entry('The VM runs at the destination, and part of its memory is still at the source.', 'Bring the connection back: both hosts keep trying, and the VM waits for the pages that it needs. If the source is lost for good, so is the VM: delete it at the destination.', 'network', true, inDoubt),
  IN_DOUBT: entry('The other host does not answer, and both outcomes are possible.', 'Bring the other host back; nothing is lost meanwhile.', 'network', true, inDoubt),
  STATE_LOST: entry('The destination lost what it had received; the VM runs at the source.', 'Try again; see the log of the other host.', 'host', true),
  FENCED: entry('An operator stated that the other host was fenced; the VM was settled here.', 'Never let the fenced host come back with its memory.', 'operator', false),
  TWO_LIVES: entry('Both hosts run this VM: an operator stated that one of them was fenced, and it was not.', 'Decide at once which one lives on, and delete the other with `migctl vm delete`.', 'operator', false, inDoubt),
  INTERNAL: entry('A defect of this program.', 'Report it with the log.', 'bug', false),
} as const satisfies Record<string, CodeEntry>;

export type Code = keyof typeof CODES;

/** Whether `text` is one of our codes (a peer's word is checked before it is shown). */
export const isCode = (text: string): text is Code => Object.hasOwn(CODES, text);
