// The head of the conversation, and who is in the room.

import { beforePaint } from '../../coalesce.js';
import { byId, copyButton, element, icon, iconButton, keyed, setText } from '../../dom.js';
import { linkToRoom } from '../../link.js';
import { hashOf } from '../../route.js';
import * as contacts from '../contacts.js';
import { tag } from '../names.js';
import * as rooms from '../rooms.js';
import { session } from '../session.js';
import { badge } from './badge.js';

/** People of a room that are listed. */
const LISTED = 200;

let headOf;
let face;

export function start() {
  byId('show-here').addEventListener('click', () => showHere(byId('here').dataset.open !== 'true'));
  const draw = beforePaint(render);
  for (const event of ['people', 'conversations', 'opened']) session.addEventListener(event, draw);
  render();
}

/** On a small screen who is here covers what was said. */
function showHere(open) {
  byId('show-here').setAttribute('aria-expanded', String(open));
  byId('here').dataset.open = open;
}

function render() {
  const { opened } = session;
  byId('conversation').hidden = opened === undefined;
  byId('no-conversation').hidden = opened !== undefined;
  if (!opened) return;
  const inRoom = opened.kind === 'room';
  const contact = !inRoom && session.people.isContact(opened.id);
  const head = `${opened.key} ${contact}`;
  if (headOf !== head) {
    headOf = head;
    face = inRoom ? { node: element('span', { class: 'badge room', 'aria-hidden': 'true' }, '#') } : badge(opened.id);
    byId('conversation-badge').replaceChildren(face.node);
    const focused = byId('conversation-actions').contains(document.activeElement);
    byId('conversation-actions').replaceChildren(...(inRoom ? roomActions(opened) : personActions(opened, contact)));
    if (focused) byId('conversation-actions').querySelector('button')?.focus();
    byId('conversation').dataset.kind = opened.kind;
    showHere(false);
    byId('here').hidden = !inRoom;
    byId('show-here').hidden = !inRoom;
  }
  if (inRoom) showRoom(opened.id);
  else showPerson(opened.id);
}

function showRoom(room) {
  const others = session.people.listIn(room);
  setText(byId('conversation-title'), room);
  const count = others.length === 0 ? 'only you are here' : `${others.length + 1} people here`;
  const joining = rooms.isJoining(room);
  setText(byId('conversation-facts'), joining ? 'joining…' : count);
  setText(byId('show-here'), joining ? 'joining…' : others.length === 0 ? 'only you' : `${others.length + 1} here`);
  keyed(byId('here-list'), others.slice(0, LISTED), ({ id }) => id, personHere);
  byId('here-more').hidden = others.length <= LISTED;
  setText(byId('here-more'), `and ${others.length - LISTED} more`);
}

function showPerson(id) {
  const name = session.people.nameOf(id);
  const online = session.people.isOnline(id);
  face.update(name, online);
  setText(byId('conversation-title'), name);
  setText(byId('conversation-facts'), `${online ? 'online' : 'offline'} · …${tag(id)}`);
  byId('conversation-facts').title = id;
}

function roomActions({ id }) {
  const leave = () => {
    rooms.leave(id);
    location.hash = '#talk';
  };
  return [copyButton(`Copy a link to the room ${id}`, linkToRoom(id), 'link'), iconButton('leave', `Leave the room ${id}`, leave)];
}

function personActions(opened, contact) {
  const { id } = opened;
  const change = () => (contact ? contacts.remove(id) : contacts.add(id));
  const label = contact ? 'In contacts' : 'Add to contacts';
  const pressed = { 'aria-pressed': String(contact), 'aria-label': label, title: contact ? 'Remove from contacts' : label };
  const keep = element('button', { type: 'button', class: 'plain keep', onclick: change, ...pressed }, icon('keep'), element('span', {}, label));
  const files = iconButton('folder', 'Show their files', () => (location.hash = hashOf({ peer: id })));
  const end = iconButton('remove', 'Remove this conversation', () => {
    contacts.remove(id);
    session.close(opened);
    location.hash = '#talk';
  });
  return contact ? [keep, files] : [keep, files, end];
}

function personHere({ id }) {
  const face = badge(id);
  const name = element('bdi', { class: 'who' });
  const end = element('span', { class: 'muted facts' }, `…${tag(id)}`);
  const link = element('a', { href: hashOf({ with: id }) }, face.node, element('span', { class: 'lines' }, name, end));
  return {
    node: element('li', { 'data-id': id }, link),
    update(person) {
      face.update(person.name);
      setText(name, person.name);
      link.title = `Talk to ${person.name}`;
    },
  };
}
