// What the page's address asks for, and addresses that ask. Pure.
//
// All is in the part after #, which never leaves the browser, so the server does not learn what is shared; except
// `?peer=ID`, the form that people are given to talk to somebody.

import { isPeer, roomName } from './talk/wire.js';

/**
 * `{view: 'talk', list?, room?, person?}` or `{view: 'files', cid?, from?, peer?}`:
 *
 * - `#room=NAME`, `#with=PEER`: a conversation; `#talk`: the list of them
 * - `#files`, `#get=CID&from=PEER`, `#peer=PEER`: a file, the files of a peer
 */
export function route(hash) {
  const asked = new URLSearchParams(hash.replace(/^#/, ''));
  const [cid, from, peer] = ['get', 'from', 'peer'].map((name) => asked.get(name) || undefined);
  if (cid || peer || asked.has('files')) return { view: 'files', cid, from, peer };
  const room = roomName(asked.get('room') ?? '');
  if (room) return { view: 'talk', room };
  const person = asked.get('with');
  if (isPeer(person)) return { view: 'talk', person };
  return { view: 'talk', list: asked.has('talk') };
}

export function hashOf(parts) {
  return `#${new URLSearchParams(Object.entries(parts).filter(([, value]) => value))}`;
}

/** A link for others: the page at the same relays, and no more of this page's own address. `peer` is whom to talk to. */
export function linkOf(href, parts, peer) {
  const url = new URL(href);
  const relays = url.searchParams.getAll('relay');
  url.search = '';
  for (const relay of relays) url.searchParams.append('relay', relay);
  if (peer) url.searchParams.set('peer', peer);
  url.hash = Object.keys(parts).length > 0 ? hashOf(parts) : '';
  return url.href;
}

/** The address of this page after such a link was taken: `{href, valid}`; nothing if it is none. */
export function invitation(href) {
  const url = new URL(href);
  const peer = url.searchParams.get('peer');
  if (peer === null) return undefined;
  url.searchParams.delete('peer');
  const valid = isPeer(peer);
  if (valid) url.hash = hashOf({ with: peer });
  return { href: url.href, valid };
}
