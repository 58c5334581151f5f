/**
 * Entry of a data plane's worker thread. Its first message says what it is to do for its one
 * channel. `close` lets it say how far it came, wipes the keys and ends the thread at once: the memory is mapped by the main
 * thread, which unmaps it when this thread is gone.
 */
import { runFaultHandler } from './fault-handler-thread.ts';
import { runFaultServer } from './fault-server-thread.ts';
import { keysOf, type Command, type Setup } from './messages.ts';
import { runReceiver } from './receiver-thread.ts';
import { runSender } from './sender-thread.ts';
import { mainPort, report, reportFailure, type Duty } from './worker-port.ts';

mainPort().once('message', (setup: Setup) => {
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

function dutyOf(setup: Setup): Duty {
  switch (setup.role) {
    case 'sender':
      return runSender(setup);
    case 'receiver':
      return runReceiver(setup);
    case 'faultServer':
      return runFaultServer(setup);
    case 'faultHandler':
      return runFaultHandler(setup);
  }
}

/** What cannot even begin has only its keys to wipe. */
function begin(setup: Setup): Duty {
  try {
    return dutyOf(setup);
  } catch (thrown) {
    reportFailure(thrown);
    const wipe = () => {
      for (const key of keysOf(setup)) key.fill(0);
    };
    return { obey: async () => undefined, reckon: () => null, wipe };
  }
}
