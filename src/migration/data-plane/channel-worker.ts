/**
 * Entry of a data plane's worker thread. Its first message says what it is to do for its one
 * channel. `close` lets it say how far it came, wipes the keys and ends the thread at once: the memory is mapped by the main
 * thread, which unmaps it when this thread is gone.
 */
import type { Command, ReceiverSetup, SenderSetup } from './messages.ts';
import { runReceiver } from './receiver-thread.ts';
import { runSender } from './sender-thread.ts';
import { mainPort, report, reportFailure } from './worker-port.ts';

mainPort().once('message', (setup: SenderSetup | ReceiverSetup) => {
  const { obey, reckon, wipe } = setup.role === 'sender' ? runSender(setup) : runReceiver(setup);
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
