/**
 * Entry of a data plane's worker thread. Its first message says what it is to do for its one
 * channel. `close` lets it say how far it came, wipes the keys and ends the thread at once: the memory is mapped by the main
 * thread, which unmaps it when this thread is gone.
 */
import type { Command, ReceiverSetup, SenderSetup } from './messages.ts';
import { runReceiver } from './receiver-thread.ts';
import { runSender } from './sender-thread.ts';
import { mainPort, report, reportFailure, type Duty } from './worker-port.ts';

mainPort().once('message', (setup: SenderSetup | ReceiverSetup) => {
  const { obey, reckon, wipe } = begin(setup);
  mainPort().on('message', (command: Command) => {
    if (command.kind === 'close') {
      if (command.reckon !== undefined)
        report({ kind: 'reckoned', extent: reckon(command.reckon) });
      wipe();
      process.exit();
    }
    obey(command).catch(reportFailure);
  });
});

/** What cannot even begin has only its keys to wipe. */
function begin(setup: SenderSetup | ReceiverSetup): Duty {
  try {
    return setup.role === 'sender' ? runSender(setup) : runReceiver(setup);
  } catch (thrown) {
    reportFailure(thrown);
    const wipe = () => {
      for (const key of Object.values(setup.keys)) key.fill(0);
    };
    return { obey: async () => undefined, reckon: () => null, wipe };
  }
}
