/** Who listens to a control channel, when one hands it to another. */
import { test } from 'tap';
import { Conversation, type Listener } from '../../../src/migration/conversation.ts';
import type { ControlChannel } from '../../../src/transport/control.ts';
import { Hours } from './pretend-handover.ts';

type Handlers = Parameters<ControlChannel['listen']>[0];

void test('who takes over a connection that is gone hears of it', async (t) => {
  let handlers: Handlers | undefined;
  const channel = {
    listen: (given: Handlers) => {
      handlers = given;
    },
  } as unknown as ControlChannel;
  const heard: string[] = [];
  const listener = (name: string): Listener => ({
    message: () => undefined,
    broken: () => undefined,
    closed: (code) => heard.push(`${name}: ${code}`),
  });
  const conversation = new Conversation(channel, 'source');
  conversation.listen(listener('first'), new Hours(), 1000);
  conversation.passTo(listener('second'));
  t.same(heard, []);
  handlers?.closed('PEER_CLOSED', '');
  t.same(heard, ['second: PEER_CLOSED']);
  conversation.passTo(listener('third'));
  t.same(heard, ['second: PEER_CLOSED', 'third: PEER_CLOSED']);
});
