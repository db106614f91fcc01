// Who there is: what they are called, who is here, who is a contact. Pure.

import { nickname } from './names.js';

/** Contacts; the package keeps at most 64 peers connected, and the one of an open conversation is kept too. */
export const CONTACTS_MAX = 60;
/** Names that are remembered of people who are no contacts. */
export const NAMES_MAX = 2000;
/** People of one room. */
export const ROOM_PEOPLE_MAX = 1000;

export class People {
  /** Peer id → what they say they are called; the latest last. */
  #names = new Map();
  #connected = new Set();
  /** Room → who is in it. */
  #rooms = new Map();
  /** Peer id → name; in the order in which they were added. */
  #contacts = new Map();

  nameOf(id) {
    return this.#contacts.get(id) || this.#names.get(id) || nickname(id);
  }

  /** Notes a name, and says whether it is a new one. An empty one says nothing. */
  named(id, name) {
    if (name === '') return false;
    const changed = this.nameOf(id) !== name;
    if (this.#contacts.has(id)) this.#contacts.set(id, name);
    this.#names.delete(id);
    this.#names.set(id, name);
    if (this.#names.size > NAMES_MAX) this.#names.delete(this.#names.keys().next().value);
    return changed;
  }

  connect(id) {
    this.#connected.add(id);
  }

  disconnect(id) {
    this.#connected.delete(id);
  }

  /** Connected, or seen in a room. */
  isOnline(id) {
    return this.#connected.has(id) || [...this.#rooms.values()].some((here) => here.has(id));
  }

  enter(room, id) {
    const here = this.#rooms.get(room) ?? new Set();
    if (here.size < ROOM_PEOPLE_MAX) here.add(id);
    this.#rooms.set(room, here);
  }

  leave(room, id) {
    this.#rooms.get(room)?.delete(id);
  }

  /** We left: nothing more is heard of it. */
  forgetRoom(room) {
    this.#rooms.delete(room);
  }

  countIn(room) {
    return this.#rooms.get(room)?.size ?? 0;
  }

  /** Who is in a room, by name. */
  listIn(room) {
    const here = [...(this.#rooms.get(room) ?? [])].map((id) => ({ id, name: this.nameOf(id) }));
    return here.sort((a, b) => a.name.localeCompare(b.name) || (a.id < b.id ? -1 : 1));
  }

  isContact(id) {
    return this.#contacts.has(id);
  }

  /** `[{id, name}]` */
  get contacts() {
    return [...this.#contacts].map(([id, name]) => ({ id, name: name || nickname(id) }));
  }

  /** As it is kept: a name only if one was said. */
  get contactNames() {
    return [...this.#contacts];
  }

  /** Says whether there was room. */
  addContact(id, name = this.#names.get(id) ?? '') {
    if (!this.#contacts.has(id) && this.#contacts.size >= CONTACTS_MAX) return false;
    this.#contacts.set(id, name);
    return true;
  }

  removeContact(id) {
    this.#contacts.delete(id);
  }
}
