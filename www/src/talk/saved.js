// What the page remembers of its conversations: one record for each identity, as text. Pure; whoever wrote into the
// storage what this page did not, or an older version of it, gets no further than the loss of what cannot be read.

import { CONVERSATIONS_MAX } from './conversations.js';
import { cleanName } from './names.js';
import { CONTACTS_MAX } from './people.js';
import { isPeer, readFile, readText, roomName } from './wire.js';

/** Rooms that are joined at a time. */
export const ROOMS_MAX = 16;
/** Conversations whose messages are kept, the latest. */
export const KEPT_CONVERSATIONS = 20;
/** Messages of each, the last. */
export const KEPT_MESSAGES = 50;
/** Characters of the whole record: browsers give an origin some five million. */
export const KEPT_CHARACTERS = 1_500_000;

const STATES = new Set(['sent', 'delivered', 'failed']);
/** What a message was about when the page went away is not known; it can be tried again. */
const INTERRUPTED = 'The page was closed before this was delivered.';

/** `{name, rooms: [name], contacts: [[id, name]], conversations: [{kind, id, unread, messages}]}`, the latest conversation last. */
export function pack({ name, rooms, contacts, conversations }) {
  const latest = conversations.slice(-CONVERSATIONS_MAX).map(({ kind, id, unread, messages }, at, all) => {
    const kept = at >= all.length - KEPT_CONVERSATIONS ? messages.filter(({ state }) => state !== 'storing').slice(-KEPT_MESSAGES) : [];
    return { kind, id, unread, messages: kept };
  });
  const record = { version: 1, name, rooms, contacts, conversations: latest };
  let text = JSON.stringify(record);
  // The messages of the conversation that has rested longest go first.
  for (const conversation of latest) {
    if (text.length <= KEPT_CHARACTERS) break;
    conversation.messages = [];
    text = JSON.stringify(record);
  }
  return text;
}

/** The same again, of whatever text. */
export function unpack(text) {
  let record;
  try {
    record = JSON.parse(text ?? '{}');
  } catch {
    record = {};
  }
  const field = (name) => (typeof record === 'object' && record !== null ? record[name] : undefined);
  const name = typeof field('name') === 'string' ? cleanName(field('name')) : '';
  return {
    name,
    rooms: list(field('rooms'), ROOMS_MAX, (room) => (typeof room === 'string' && roomName(room)) || undefined),
    contacts: list(field('contacts'), CONTACTS_MAX, readContact),
    conversations: list(field('conversations'), CONVERSATIONS_MAX, readConversation),
  };
}

function list(value, max, readOne) {
  if (!Array.isArray(value)) return [];
  return value.slice(0, max).map(readOne).filter((item) => item !== undefined);
}

function readContact(value) {
  const [id, name] = Array.isArray(value) ? value : [];
  return isPeer(id) ? [id, typeof name === 'string' ? cleanName(name) : ''] : undefined;
}

function readConversation(value) {
  const { kind, id, unread, messages } = value ?? {};
  const known = kind === 'with' ? isPeer(id) : kind === 'room' && typeof id === 'string' && roomName(id) === id && id !== '';
  if (!known) return undefined;
  const read = list(messages, KEPT_MESSAGES, readMessage);
  return { kind, id, unread: Number.isSafeInteger(unread) ? Math.min(Math.max(unread, 0), read.length) : 0, messages: read };
}

function readMessage(value) {
  const { key, from, mine, name, at, text, file, state, problem } = value ?? {};
  if (typeof key !== 'string' || key.length > 200 || !isPeer(from) || !Number.isSafeInteger(at)) return undefined;
  const content = file === undefined ? { text: readText(text) } : { file: readFile(file) };
  if (content.text === undefined && content.file === undefined) return undefined;
  const message = { key, from, mine: mine === true, name: typeof name === 'string' ? cleanName(name) : '', at, ...content };
  if (!message.mine) return message;
  if (STATES.has(state)) message.state = state;
  else Object.assign(message, { state: 'failed', problem: INTERRUPTED });
  if (state === 'failed' && typeof problem === 'string') message.problem = problem.slice(0, 300);
  return message;
}
