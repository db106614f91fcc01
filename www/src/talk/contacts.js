// Direct messages that come in, and the peers that are kept connected: the contacts, and whom one talks to.

import { coalesced } from '../coalesce.js';
import { peer } from '../peer.js';
import { problem } from '../views/notices.js';
import { session } from './session.js';
import { CONTACTS_MAX } from './people.js';
import { PROTOCOL, hello, read } from './wire.js';

/** Answers to `hello` under way; who asks meanwhile, beyond that, gets none. */
const ANSWERING_MAX = 64;

/** Whom the package keeps connected for us. */
const kept = new Set();
const answering = new Set();

export async function start() {
  peer.client.addEventListener('peer:connect', ({ detail }) => {
    session.people.connect(detail.peerID);
    session.tell('people');
    meet(detail.peerID);
  });
  peer.client.addEventListener('peer:disconnect', ({ detail }) => {
    session.people.disconnect(detail.peerID);
    session.tell('people');
  });
  session.addEventListener('came', ({ detail }) => meet(detail));
  session.addEventListener('opened', keepThem);
  await peer.client.start(PROTOCOL, heard);
  for (const { peerID } of (await peer.client.status()).peers) session.people.connect(peerID);
  session.tell('people');
  keepThem();
}

/** Makes somebody a contact, or says why not. */
export function add(id) {
  if (!session.people.addContact(id)) {
    problem({ message: `${CONTACTS_MAX} contacts` }, 'You have too many contacts. Remove one first.');
    return;
  }
  session.tell('people');
  keepThem();
}

export function remove(id) {
  session.people.removeContact(id);
  session.tell('people');
  keepThem();
}

function wanted() {
  const { opened, people } = session;
  const talking = opened?.kind === 'with' ? [opened.id] : [];
  return new Set([...people.contacts.map(({ id }) => id), ...talking]);
}

const keepThem = coalesced(async () => {
  const now = wanted();
  for (const id of [...kept].filter((id) => !now.has(id))) {
    kept.delete(id);
    await peer.client.removePeers([id]).catch(() => {});
  }
  for (const id of [...now].filter((id) => !kept.has(id))) {
    kept.add(id);
    try {
      await peer.client.addPeers([id]);
    } catch (error) {
      if (error.code === 'CLOSED') return;
      // Not a peer after all, or this one itself: nobody to talk to.
      kept.delete(id);
      forget(id);
      problem(error, 'That conversation cannot be opened.');
    }
  }
});

function forget(id) {
  session.people.removeContact(id);
  const conversation = session.conversations.list('with').find((conversation) => conversation.id === id);
  if (conversation) session.close(conversation);
  session.tell('people');
}

/** Somebody is there who matters to us: names are exchanged, which also connects. */
function meet(id) {
  if (wanted().has(id)) greet(id, true);
}

/** Says one's name to all of them. */
export function introduce() {
  for (const id of wanted()) if (session.people.isOnline(id)) greet(id, false);
}

async function greet(id, ask) {
  try {
    await peer.client.send(id, PROTOCOL, hello(session.name, ask));
  } catch {
    // Gone again, or not a page like this one. The name also comes with each message.
  }
}

function heard(from, data) {
  const message = read(data);
  if (message?.type === 'hello') {
    if (session.people.named(from, message.name)) session.tell('people');
    if (message.ask && answering.size < ANSWERING_MAX && !answering.has(from)) {
      answering.add(from);
      greet(from, false).finally(() => answering.delete(from));
    }
  } else if (message) {
    session.receive('with', from, from, message);
  }
}
