// What this tab says: sends it and notes what became of it.

import { explain } from '../errors.js';
import { peer } from '../peer.js';
import { session } from './session.js';
import { PROTOCOL, message as wireMessage, topicOf } from './wire.js';

/** How long a direct message is tried before the person is asked. */
const DELIVERY_MS = 30_000;
const OFFLINE = 'You are offline: nobody can hear you.';

/** Says something in a conversation: `{text}` or `{file}`. */
export function say(conversation, content) {
  const message = compose(conversation, { ...content, state: 'sending' });
  deliver(conversation, message);
}

/** A message of one's own, not sent yet. */
export function compose(conversation, content) {
  const { id, name } = session;
  const message = { key: `${id}/${crypto.randomUUID()}`, from: id, mine: true, name, at: Date.now(), ...content };
  session.conversations.add(conversation.key, message);
  session.tell('conversations');
  return message;
}

/** Sends a message, for the first time or again; whoever has it already notices by its id. */
export async function deliver(conversation, message) {
  const settle = (state, problem) => {
    session.conversations.settle(conversation.key, message.key, { state, problem });
    session.tell('conversations');
  };
  settle('sending');
  const content = wireMessage(message.key.slice(session.id.length + 1), session.name, message);
  try {
    if (conversation.kind === 'with') {
      await peer.client.send(conversation.id, PROTOCOL, content, { timeout: DELIVERY_MS });
      settle('delivered');
    } else if (peer.client.connected && (await peer.client.publish(topicOf(conversation.id), content))) {
      settle('sent');
    } else {
      settle('failed', OFFLINE);
    }
  } catch (error) {
    settle('failed', explain(error).sentence);
  }
}
