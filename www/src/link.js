// Links that point at a file or a peer: …#get=CID&from=PEER and …#peer=PEER.
//
// The part after # never leaves the browser, so the server does not learn what is shared.

import * as browse from './views/browse.js';
import * as get from './views/get.js';

export function linkToFile(cid, from) {
  return link({ get: cid, from });
}

export function linkToPeer(peer) {
  return link({ peer });
}

/** Does what the page's own address asks for. */
export function openLink() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const cid = asked.get('get');
  const peer = asked.get('peer');
  if (cid) get.open(cid, asked.get('from') ?? '');
  if (peer) browse.open(peer);
}

function link(parts) {
  const url = new URL(location.href);
  url.hash = new URLSearchParams(Object.entries(parts).filter(([, value]) => value)).toString();
  return url.href;
}
