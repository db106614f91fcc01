// The card that shows what was got by CID: a file or a folder.

import { byId, copyButton, element, iconButton } from '../dom.js';
import { bytes, kind, safeName, short } from '../format.js';
import { linkToFile } from '../link.js';
import { save, view } from '../media.js';
import { peer } from '../peer.js';
import * as get from './get.js';

/** Entries of a folder that are shown. */
const ENTRIES_SHOWN = 500;

let release;
let latest;

/** Shows a file, whose `content` is a Blob, or a folder. */
export async function show(found, { cid, from, name }) {
  const mine = Symbol(cid);
  latest = mine;
  const file = found.type === 'file';
  const shown = file ? await view(found, safeName(name)) : { node: folderBody(found, from) };
  // Another one was opened meanwhile.
  if (latest !== mine) {
    shown.release?.();
    return;
  }
  release?.();
  release = shown.release;
  byId('preview-title').textContent = safeName(name);
  const owner = from ?? peer.client.peerID;
  const actions = [copyButton('Copy the CID', cid), copyButton('Copy a link', linkToFile(cid, owner), 'link')];
  if (file) actions.unshift(iconButton('save', `Save ${safeName(name)}`, () => save(found, name)));
  byId('preview-actions').replaceChildren(...actions);
  byId('preview-facts').textContent = file ? `${kind(found.mimeType)}, ${bytes(found.size)}` : 'folder';
  byId('preview-body').replaceChildren(shown.node);
  const card = byId('preview');
  card.hidden = false;
  card.scrollIntoView({ block: 'nearest' });
  card.focus({ preventScroll: true });
}

function folderBody(found, from) {
  const entries = Object.entries(found.entries);
  const rows = entries.slice(0, ENTRIES_SHOWN).map(([name, cid]) => {
    const onclick = () => get.fetchAndShow(cid, from, safeName(name));
    return element('li', {}, element('button', { type: 'button', class: 'name', onclick }, safeName(name)), element('code', { class: 'muted' }, short(cid)));
  });
  if (entries.length > ENTRIES_SHOWN) rows.push(element('li', { class: 'muted' }, `and ${entries.length - ENTRIES_SHOWN} more`));
  if (rows.length === 0) return element('p', { class: 'muted' }, 'Empty folder');
  return element('ul', { class: 'entries' }, ...rows);
}
