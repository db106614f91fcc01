// The conversations and people of this tab, what is remembered of them, and which conversation is looked at.
// Whoever changes something says so with `tell`; the views listen.

import { undisguised } from '../format.js';
import { memory } from '../identity.js';
import { Conversations } from './conversations.js';
import { cleanName, nickname } from './names.js';
import { People } from './people.js';
import { pack, unpack } from './saved.js';

/** Changes are written together, after so long at most. */
const SAVE_MS = 1000;

/** Emits `conversations` when something was said or settled, `people` when somebody came, went or was named, `opened` when another conversation is looked at. */
class Session extends EventTarget {
  id = '';
  /** As chosen; empty until then. */
  chosenName = '';
  conversations = new Conversations();
  people = new People();
  /** The conversation that the page shows. */
  opened = undefined;
  /** Rooms of the last time, to be joined again. */
  rooms = new Set();
  /** Whether the page has room for the conversation at the moment; the views know. */
  isShown = () => false;
  #saving = 0;

  /** Takes up what this identity had the last time. */
  load(id) {
    this.id = id;
    const { name, rooms, contacts, conversations } = unpack(read(this.#record));
    this.chosenName = name;
    for (const room of rooms) this.rooms.add(room);
    for (const [contact, name] of contacts) if (contact !== id) this.people.addContact(contact, name);
    for (const { kind, id, unread, messages } of conversations) {
      const conversation = this.conversations.open(kind, id);
      conversation.messages = messages;
      conversation.unread = unread;
    }
    const save = () => this.#save();
    addEventListener('pagehide', save);
    document.addEventListener('visibilitychange', () => (document.hidden ? save() : this.look()));
  }

  /** What others call this tab. */
  get name() {
    return this.chosenName || nickname(this.id);
  }

  rename(name) {
    this.chosenName = cleanName(name);
    this.tell('people');
  }

  tell(what) {
    this.#saving ||= setTimeout(() => this.#save(), SAVE_MS);
    this.dispatchEvent(new Event(what));
  }

  /** The conversation with a peer or in a room, made if need be; nothing when there are too many. */
  conversation(kind, id) {
    const mayGo = (other) => other.kind === 'with' && other !== this.opened && !this.people.isContact(other.id);
    return this.conversations.open(kind, id, mayGo);
  }

  /** Shows a conversation. */
  open(kind, id) {
    const conversation = this.conversation(kind, id);
    if (!conversation) return;
    this.opened = conversation;
    this.conversations.markSeen(conversation.key);
    this.tell('opened');
  }

  /** The conversation is over; another one is shown in its place. */
  close(conversation) {
    this.conversations.close(conversation.key);
    if (this.opened === conversation) this.opened = undefined;
    this.tell('conversations');
  }

  /** Takes what somebody said. */
  receive(kind, id, from, { id: messageId, name, text, file }) {
    const conversation = this.conversation(kind, id);
    if (!conversation) return;
    if (this.people.named(from, name)) this.tell('people');
    const shown = this.people.nameOf(from);
    const message = { key: `${from}/${messageId}`, from, mine: false, name: shown, at: Date.now(), ...(file ? { file } : { text }) };
    const seen = this.isSeen(conversation);
    if (!this.conversations.add(conversation.key, message, seen)) return;
    this.tell('conversations');
    const said = file ? `sent the file ${file.name}` : undisguised(text.slice(0, 200));
    const event = new CustomEvent('heard', { detail: { conversation, seen, line: `${shown}: ${said}` } });
    this.dispatchEvent(event);
  }

  isSeen(conversation) {
    return conversation === this.opened && !document.hidden && this.isShown();
  }

  /** Somebody looks at the page again, or at this part of it. */
  look() {
    if (this.opened && this.isSeen(this.opened) && this.conversations.markSeen(this.opened.key)) this.tell('conversations');
  }

  get #record() {
    return `tabpeer-demo:${this.id}`;
  }

  #save() {
    clearTimeout(this.#saving);
    this.#saving = 0;
    if (!this.id) return;
    const conversations = this.conversations.all;
    const text = pack({ name: this.chosenName, rooms: [...this.rooms], contacts: this.people.contactNames, conversations });
    try {
      memory().setItem(this.#record, text);
    } catch {
      // The storage is full or forbidden: what is said is still here until the page is left.
    }
  }
}

function read(record) {
  try {
    return memory().getItem(record);
  } catch {
    return null;
  }
}

export const session = new Session();
