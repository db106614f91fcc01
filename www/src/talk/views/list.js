// The list of rooms and people, one's own name, and the ways to find somebody.

import { beforePaint } from '../../coalesce.js';
import { byId, element, keyed, say, setText } from '../../dom.js';
import { linkToTalk } from '../../link.js';
import { hashOf } from '../../route.js';
import { problem } from '../../views/notices.js';
import * as contacts from '../contacts.js';
import { keyOf } from '../conversations.js';
import { nickname, tag } from '../names.js';
import * as rooms from '../rooms.js';
import { session } from '../session.js';
import { peerIn, roomName } from '../wire.js';
import { badge } from './badge.js';

let mine;

export function start() {
  mine = badge(session.id);
  byId('my-badge').replaceWith(mine.node);
  const name = byId('my-name');
  name.value = session.chosenName;
  name.placeholder = nickname(session.id);
  name.addEventListener('change', () => {
    session.rename(name.value);
    name.value = session.chosenName;
    rooms.introduce();
    contacts.introduce();
  });
  byId('share').addEventListener('click', share);
  byId('join').addEventListener('submit', (event) => {
    event.preventDefault();
    const room = roomName(event.target.elements.room.value);
    if (!room) return;
    event.target.reset();
    location.hash = hashOf({ room });
  });
  byId('find').addEventListener('submit', find);
  const draw = beforePaint(render);
  for (const event of ['conversations', 'people', 'opened']) session.addEventListener(event, draw);
  render();
}

async function share() {
  const said = byId('share-said');
  const link = linkToTalk(session.id);
  try {
    await navigator.clipboard.writeText(link);
    setText(said, 'Copied. Send it to somebody: whoever opens it can talk to you.');
    byId('my-link').hidden = true;
  } catch {
    // The browser does not let pages copy: then by hand.
    setText(said, 'Copy this link and send it to somebody:');
    byId('my-link').value = link;
    byId('my-link').hidden = false;
    byId('my-link').select();
  }
  say(said.textContent);
}

function find(event) {
  event.preventDefault();
  const id = peerIn(event.target.elements.person.value);
  if (!id) {
    problem({ code: 'INVALID_PEER_ID' }, 'Nobody is named by that.');
    return;
  }
  event.target.reset();
  location.hash = hashOf({ with: id });
}

function render() {
  mine.update(session.name);
  const others = session.conversations.list('with').filter(({ id }) => !session.people.isContact(id));
  const known = session.people.contacts.sort((a, b) => a.name.localeCompare(b.name) || (a.id < b.id ? -1 : 1));
  keyed(byId('rooms'), [...session.rooms], (room) => room, roomRow);
  keyed(byId('contacts'), known.map(({ id }) => id), (id) => id, personRow);
  keyed(byId('others'), others.map(({ id }) => id), (id) => id, personRow);
  byId('no-contacts').hidden = known.length > 0;
  byId('others-part').hidden = others.length === 0;
}

function roomRow(room) {
  const row = linkRow(hashOf({ room }), element('span', { class: 'badge room', 'aria-hidden': 'true' }, '#'));
  return {
    node: row.node,
    update() {
      const count = session.people.countIn(room);
      row.update('room', room, room, count > 0 ? `${count + 1} here` : 'only you');
    },
  };
}

function personRow(id) {
  const face = badge(id);
  const row = linkRow(hashOf({ with: id }), face.node);
  return {
    node: row.node,
    update() {
      const name = session.people.nameOf(id);
      const online = session.people.isOnline(id);
      face.update(name, online);
      row.node.dataset.online = online;
      row.node.dataset.id = id;
      row.update('with', id, name, online ? 'online' : 'offline', tag(id));
    },
  };
}

function linkRow(href, face) {
  const name = element('bdi', { class: 'who' });
  const facts = element('span', { class: 'muted facts' });
  const unread = element('span', { class: 'unread' }, element('span', {}), element('span', { class: 'spoken' }, ' unread'));
  const link = element('a', { href }, face, element('span', { class: 'lines' }, name, facts), unread);
  return {
    node: element('li', {}, link),
    update(kind, id, called, said, end) {
      const conversation = session.conversations.get(keyOf(kind, id));
      setText(name, called);
      setText(facts, said);
      link.title = end ? `${called}, …${end}` : called;
      unread.hidden = !conversation?.unread;
      setText(unread.firstElementChild, String(conversation?.unread ?? 0));
      if (session.opened?.kind === kind && session.opened.id === id) link.setAttribute('aria-current', 'true');
      else link.removeAttribute('aria-current');
    },
  };
}
