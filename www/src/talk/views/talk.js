// The part of the page where one talks: puts its views together and follows the address.

import { byId } from '../../dom.js';
import { peer } from '../../peer.js';
import { problem } from '../../views/notices.js';
import * as contacts from '../contacts.js';
import * as rooms from '../rooms.js';
import { session } from '../session.js';
import * as announce from './announce.js';
import * as composer from './composer.js';
import * as conversation from './conversation.js';
import * as list from './list.js';
import * as log from './log.js';

export function start() {
  session.load(peer.client.peerID);
  session.isShown = () => byId('log').getClientRects().length > 0;
  for (const view of [list, conversation, log, composer, announce]) view.start();
  rooms.start();
  contacts.start().catch((error) => problem(error, 'Direct messages cannot be received.'));
}

/** Shows the conversation that the address asks for: of a room, with a person, else the last one. `list`: on a small screen, the list of them. */
export function open({ room, person, list }) {
  byId('talk').dataset.pane = list ? 'list' : 'conversation';
  // Where the list takes the conversation's place, one goes on from the conversation one comes from.
  if (list && session.opened && !session.isShown()) document.querySelector('#talk .list [aria-current]')?.focus();
  if (person === session.id) {
    problem({ message: person }, 'That link is your own: send it to somebody else, or open it in another browser.');
  } else if (person) {
    session.open('with', person);
  } else if (room && rooms.join(room)) {
    session.open('room', room);
  }
  if (!session.opened) openAny();
  session.look();
}

function openAny() {
  const [room] = session.rooms;
  if (room) session.open('room', room);
  else session.tell('opened');
}
