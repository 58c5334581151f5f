/** The channels of one outgoing session: those of pages, and one for faults where pages may be left. */
import type { MigError } from '../protocol/error.ts';
import { openFaultServer, type FaultServerChannel } from './data-plane/fault-channel.ts';
import { openSender, type DataSender, type SenderOptions } from './data-plane/sender.ts';

export interface SendingOptions extends SenderOptions {
  /** Whether the destination says first, on the channel for faults, what it lacks. */
  readonly hearsAbsent?: boolean;
}

/** Channels of one session, with one for faults where pages may be left. */
export interface SendingChannels {
  readonly sender: DataSender;
  readonly faults: FaultServerChannel | undefined;
  readonly failed: Promise<MigError>;
}

/** Opens all; rejects as `openSender`, and nothing is left open then. */
export async function openChannels(options: SendingOptions): Promise<SendingChannels> {
  const { peer, postCopy = false } = options;
  const channels = peer.ports.length - (postCopy ? 1 : 0);
  const [sender, faults] = await Promise.allSettled([
    openSender({ ...options, peer: { ...peer, ports: peer.ports.slice(0, channels) } }),
    postCopy
      ? openFaultServer(options, channels, peer.ports[channels] ?? 0, options.hearsAbsent)
      : undefined,
  ]);
  if (sender.status === 'fulfilled' && faults.status === 'fulfilled') {
    const failed = Promise.race([
      sender.value.failed,
      ...(faults.value === undefined ? [] : [faults.value.failed]),
    ]);
    return { sender: sender.value, faults: faults.value, failed };
  }
  if (sender.status === 'fulfilled') await sender.value.close();
  if (faults.status === 'fulfilled') await faults.value?.close();
  throw sender.status === 'rejected' ? sender.reason : (faults as PromiseRejectedResult).reason;
}

export const closeChannels = async ({
  sender,
  faults,
}: Omit<SendingChannels, 'failed'>): Promise<void> => {
  await Promise.all([sender.close(), faults?.close()]);
};
