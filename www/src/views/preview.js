// Shows content that may come from anyone. The type decides, from a fixed list, which element shows it;
// markup is shown as text, SVG as an image, and nothing runs.

import { byId, copyButton, element, iconButton } from '../dom.js';
import { bytes, kind, safeName, short } from '../format.js';
import { linkToFile } from '../link.js';
import { peer } from '../peer.js';
import * as get from './get.js';

/** Characters of a text that are shown. */
const TEXT_SHOWN = 100_000;
/** Entries of a folder that are shown. */
const ENTRIES_SHOWN = 500;

const IMAGES = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/avif', 'image/bmp', 'image/svg+xml']);
const VIDEOS = new Set(['video/mp4', 'video/webm', 'video/ogg', 'video/quicktime']);
const SOUNDS = new Set(['audio/mpeg', 'audio/ogg', 'audio/wav', 'audio/x-wav', 'audio/webm', 'audio/flac', 'audio/aac', 'audio/mp4']);
const TEXTS = new Set(['application/json', 'application/javascript', 'application/xml', 'application/toml', 'application/yaml']);

let shownUrl;
let latest;

/** Shows a file, whose `content` is a Blob, or a folder. */
export async function show(found, { cid, from, name }) {
  const mine = Symbol(cid);
  latest = mine;
  const shown = found.type === 'file' && isText(found) ? await textBody(found.content) : undefined;
  // Another one was opened meanwhile.
  if (latest !== mine) return;
  if (shownUrl) URL.revokeObjectURL(shownUrl);
  shownUrl = undefined;
  byId('preview-title').textContent = safeName(name);
  const owner = from ?? peer.client.peerID;
  const actions = [copyButton('Copy the CID', cid), copyButton('Copy a link', linkToFile(cid, owner), 'link')];
  const file = found.type === 'file';
  if (file) actions.unshift(iconButton('save', `Save ${safeName(name)}`, () => save(found, name)));
  byId('preview-actions').replaceChildren(...actions);
  byId('preview-facts').textContent = file ? `${kind(found.mimeType)}, ${bytes(found.size)}` : 'folder';
  byId('preview-body').replaceChildren(shown ?? (file ? fileBody(found, safeName(name)) : folderBody(found, from)));
  const card = byId('preview');
  card.hidden = false;
  card.scrollIntoView({ block: 'nearest' });
  card.focus({ preventScroll: true });
}

/** Hands the bytes to the browser's downloads; the neutral type keeps it from opening them. */
export function save(found, name) {
  const url = URL.createObjectURL(new Blob([found.content], { type: 'application/octet-stream' }));
  const anchor = element('a', { href: url, download: safeName(name ?? 'file') });
  anchor.click();
  // The download has its own hold on the blob once the click was handled.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function typeOf(found) {
  return found.mimeType.split(';')[0].trim().toLowerCase();
}

function isText(found) {
  const type = typeOf(found);
  return type.startsWith('text/') || TEXTS.has(type);
}

function fileBody(found, name) {
  const type = typeOf(found);
  const source = () => {
    shownUrl = URL.createObjectURL(new Blob([found.content], { type }));
    return shownUrl;
  };
  if (IMAGES.has(type)) return watched(element('img', { src: source(), alt: name }));
  if (VIDEOS.has(type)) return watched(element('video', { src: source(), controls: true, 'aria-label': name }));
  if (SOUNDS.has(type)) return watched(element('audio', { src: source(), controls: true, 'aria-label': name }));
  if (type === 'application/pdf') return element('iframe', { src: source(), title: name, referrerpolicy: 'no-referrer' });
  return element('p', { class: 'muted' }, 'There is no preview for this kind of file. You can save it.');
}

/** A damaged picture is said to be one, instead of a broken frame. */
function watched(media) {
  media.addEventListener('error', () => {
    media.replaceWith(element('p', { class: 'muted' }, 'This browser cannot show this file. You can save it.'));
  });
  return media;
}

async function textBody(content) {
  // Four bytes are the longest character, so this cuts after what is shown, not before.
  const text = (await content.slice(0, TEXT_SHOWN * 4).text()).slice(0, TEXT_SHOWN);
  const pre = element('pre', { tabindex: '0' }, text);
  if (text.length < TEXT_SHOWN) return pre;
  return element('div', {}, pre, element('p', { class: 'muted' }, 'Only the beginning is shown. Save the file to see all of it.'));
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
