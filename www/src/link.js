// Links to what this page shows, and doing what the page's own address asks for.

import { invitation, linkOf, route } from './route.js';
import * as talk from './talk/views/talk.js';
import * as browse from './views/browse.js';
import * as get from './views/get.js';
import { problem } from './views/notices.js';
import { showView } from './views/switch.js';

export function linkToFile(cid, from) {
  return linkOf(location.href, { get: cid, from });
}

/** To the files of a peer. */
export function linkToPeer(peer) {
  return linkOf(location.href, { peer });
}

/** To a conversation with a peer. */
export function linkToTalk(peer) {
  return linkOf(location.href, {}, peer);
}

export function linkToRoom(room) {
  return linkOf(location.href, { room });
}

/** Shows the part of the page that is asked for; that much needs no peer. */
export function openPart() {
  const invited = invitation(location.href);
  if (invited) history.replaceState(null, '', invited.href);
  if (invited?.valid === false) problem({ code: 'INVALID_PEER_ID' }, 'The link names nobody.');
  showView(route(location.hash).view);
}

/** Does what the page's own address asks for. */
export function openLink() {
  const asked = route(location.hash);
  showView(asked.view);
  if (asked.view === 'talk') talk.open(asked);
  if (asked.cid) get.open(asked.cid, asked.from ?? '');
  if (asked.peer) browse.open(asked.peer);
}
