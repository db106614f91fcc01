// Rooms: topics that everybody may enter. Joins them, hears what is said there and who comes and goes.

import { peer } from '../peer.js';
import { problem } from '../views/notices.js';
import { keyOf } from './conversations.js';
import { ROOMS_MAX } from './saved.js';
import { session } from './session.js';
import { hello, read, topicOf } from './wire.js';

/** Where everybody meets who joined no other room. */
export const LOBBY = 'lobby';

/** Those who come in a row are greeted once. The more people there are, the longer it takes: all of them greet. */
const GREET_MS = 300;
const GREET_EACH_MS = 20;

/** Room → `{ready, greeting}` */
const joined = new Map();

export function start() {
  if (session.rooms.size === 0) session.rooms.add(LOBBY);
  for (const room of session.rooms) join(room);
}

export function isJoining(room) {
  return joined.get(room)?.ready === false;
}

/** Says whether the room is joined, or about to be. */
export function join(room) {
  if (joined.has(room)) return true;
  if (joined.size >= ROOMS_MAX) {
    problem({ message: `${ROOMS_MAX} rooms` }, 'You are in too many rooms. Leave one first.');
    return false;
  }
  const here = { ready: false, greeting: 0 };
  joined.set(room, here);
  session.rooms.add(room);
  session.conversation('room', room);
  session.tell('conversations');
  enter(room, here);
  return true;
}

async function enter(room, here) {
  try {
    await peer.client.subscribe(topicOf(room), (from, data) => heard(room, from, data), (id, came) => changed(room, id, came));
    here.ready = true;
    if (joined.get(room) === here) greet(room);
    session.tell('people');
  } catch (error) {
    if (joined.get(room) !== here) return;
    problem(error, `The room “${room}” could not be joined.`);
    leave(room);
  }
}

export function leave(room) {
  clearTimeout(joined.get(room)?.greeting);
  joined.delete(room);
  session.rooms.delete(room);
  session.people.forgetRoom(room);
  peer.client.unsubscribe(topicOf(room));
  const conversation = session.conversations.get(keyOf('room', room));
  if (conversation) session.close(conversation);
  session.tell('people');
}

/** Says one's name, everywhere. */
export function introduce() {
  for (const room of joined.keys()) greet(room);
}

function heard(room, from, data) {
  const message = read(data);
  if (!message || !joined.has(room)) return;
  if (message.type === 'hello') {
    if (session.people.named(from, message.name)) session.tell('people');
  } else {
    session.receive('room', room, from, message);
  }
}

function changed(room, id, came) {
  if (!joined.has(room)) return;
  if (came) {
    session.people.enter(room, id);
    greet(room);
  } else {
    session.people.leave(room, id);
  }
  session.tell('people');
  if (came) session.dispatchEvent(new CustomEvent('came', { detail: id }));
}

function greet(room) {
  const here = joined.get(room);
  if (!here.ready || here.greeting) return;
  const crowd = session.people.countIn(room) * GREET_EACH_MS;
  here.greeting = setTimeout(() => {
    here.greeting = 0;
    // Who does not hear it sees the name with the first message.
    peer.client.publish(topicOf(room), hello(session.name)).catch(() => {});
  }, GREET_MS + Math.random() * crowd);
}
