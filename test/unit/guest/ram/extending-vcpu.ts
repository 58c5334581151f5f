/** A vCPU that extends three PCRs and ends: for the test of the mailbox. */
import { workerData } from 'node:worker_threads';
import { TpmMailbox } from '../../../../src/guest/ram/shared.ts';

const mailbox = new TpmMailbox((workerData as { readonly mailbox: SharedArrayBuffer }).mailbox);
mailbox.extend(16, Buffer.from('first'));
mailbox.extend(17, Buffer.from('x'.repeat(100)));
mailbox.extend(0, new Uint8Array(0));
