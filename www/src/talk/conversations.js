// The conversations and what was said in them. Pure: no clock, no network, no page.
//
// Others decide how much arrives, so all of it is bounded: the oldest makes room.

/** Conversations at a time: all rooms, all contacts, and some that others begin. */
export const CONVERSATIONS_MAX = 100;
/** Messages of one conversation. */
export const MESSAGES_MAX = 200;

/** `room:NAME` or `with:PEER`. */
export function keyOf(kind, id) {
  return `${kind}:${id}`;
}

/**
 * A conversation is `{key, kind: 'room'|'with', id, messages, unread}`. A message is
 * `{key, from, mine, name, at, text?, file?, state?, problem?}`; `state`, of one's own, is `storing`, `sending`, `sent`
 * (to a room, which acknowledges nothing), `delivered` or `failed`.
 */
export class Conversations {
  /** In the order in which something happened in them, the latest last. */
  #all = new Map();

  get(key) {
    return this.#all.get(key);
  }

  get all() {
    return [...this.#all.values()];
  }

  /** Those of a kind, the latest first. */
  list(kind) {
    return this.all.filter((conversation) => conversation.kind === kind).reverse();
  }

  get unread() {
    return this.all.reduce((sum, { unread }) => sum + unread, 0);
  }

  /**
   * The conversation, made if need be. When there are too many, the one goes that has rested longest of those that
   * `mayGo` lets go; if none may, there is no new one.
   */
  open(kind, id, mayGo = () => true) {
    const key = keyOf(kind, id);
    const known = this.#all.get(key);
    if (known) return known;
    if (this.#all.size >= CONVERSATIONS_MAX) {
      const gone = this.all.find(mayGo);
      if (!gone) return undefined;
      this.#all.delete(gone.key);
    }
    const made = { key, kind, id, messages: [], unread: 0 };
    this.#all.set(key, made);
    return made;
  }

  close(key) {
    this.#all.delete(key);
  }

  /** Adds a message at the end; not one that is there already, as a message is that was tried again. */
  add(key, message, seen) {
    const conversation = this.#all.get(key);
    if (!conversation || conversation.messages.some((other) => other.key === message.key)) return false;
    conversation.messages.push(message);
    if (conversation.messages.length > MESSAGES_MAX) conversation.messages.shift();
    if (!seen && !message.mine) conversation.unread += 1;
    this.#all.delete(key);
    this.#all.set(key, conversation);
    return true;
  }

  message(key, messageKey) {
    return this.#all.get(key)?.messages.find((message) => message.key === messageKey);
  }

  /** Notes what became of one's own message, if it is still there. */
  settle(key, messageKey, changes) {
    const message = this.message(key, messageKey);
    if (message) Object.assign(message, changes);
    return message;
  }

  /** Takes a message away that was never sent. */
  withdraw(key, messageKey) {
    const conversation = this.#all.get(key);
    if (conversation) conversation.messages = conversation.messages.filter((message) => message.key !== messageKey);
  }

  /** Says whether that changed anything. */
  markSeen(key) {
    const conversation = this.#all.get(key);
    if (!conversation || conversation.unread === 0) return false;
    conversation.unread = 0;
    return true;
  }
}
