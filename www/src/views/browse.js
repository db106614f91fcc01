// The tree of another peer, by its id.

import { byId, element, say } from '../dom.js';
import { safeName, short } from '../format.js';
import { linkToFile } from '../link.js';
import { peer } from '../peer.js';
import * as get from './get.js';
import { describe } from './notices.js';
import { tree } from './tree.js';

let latest;
let dialling;

export function start() {
  byId('browse').addEventListener('submit', (event) => {
    event.preventDefault();
    show(event.target.elements.peer.value.trim());
  });
  byId('dial').addEventListener('submit', (event) => {
    event.preventDefault();
    dial(event.target.elements.address.value.trim());
  });
}

/** Connects, and offers the peer that answered for a look at its files. */
async function dial(address) {
  const place = byId('dialled');
  const mine = Symbol(address);
  dialling = mine;
  place.replaceChildren(element('p', { class: 'muted' }, 'Connecting…'));
  let result;
  try {
    const peerID = await peer.client.dial(address);
    result = element('p', { class: 'muted' }, `Connected with ${short(peerID)}.`);
    if (dialling === mine) {
      byId('browse').elements.peer.value = peerID;
      say(result.textContent);
    }
  } catch (error) {
    result = describe(error, '');
  }
  if (dialling === mine) place.replaceChildren(result);
}

/** Shows a peer's files as if its id had been typed. */
export function open(peerID) {
  byId('browse').elements.peer.value = peerID;
  show(peerID);
}

async function show(peerID) {
  const place = byId('peer-tree');
  const mine = Symbol(peerID);
  latest = mine;
  place.setAttribute('aria-busy', 'true');
  place.replaceChildren(element('p', { class: 'muted' }, `Asking ${short(peerID)}…`));
  let result;
  try {
    const { entries } = await peer.client.listFiles(peerID);
    const actions = {
      open: (path, { cid }) => get.fetchAndShow(cid, peerID, safeName(path)),
      save: (path, { cid }) => get.fetchAndSave(cid, peerID, safeName(path)),
      link: ({ cid }) => linkToFile(cid, peerID),
    };
    const empty = Object.keys(entries).length === 0;
    result = empty ? element('p', { class: 'muted empty' }, 'This peer shares no files.') : tree(entries, actions);
  } catch (error) {
    result = describe(error, 'The files of that peer could not be listed.');
  }
  // An answer to an older question comes too late.
  if (latest !== mine) return;
  place.removeAttribute('aria-busy');
  place.replaceChildren(result);
}
