// Shows content that may come from anyone. The type decides, from a fixed list, which element shows it;
// markup is shown as text, SVG as an image, and nothing runs.

import { element } from './dom.js';
import { safeName } from './format.js';

/** Characters of a text that are shown. */
const TEXT_SHOWN = 100_000;

const IMAGES = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/avif', 'image/bmp', 'image/svg+xml']);
const VIDEOS = new Set(['video/mp4', 'video/webm', 'video/ogg', 'video/quicktime']);
const SOUNDS = new Set(['audio/mpeg', 'audio/ogg', 'audio/wav', 'audio/x-wav', 'audio/webm', 'audio/flac', 'audio/aac', 'audio/mp4']);
const TEXTS = new Set(['application/json', 'application/javascript', 'application/xml', 'application/toml', 'application/yaml']);

/** A file, whose `content` is a Blob, as something to look at: `{node, release}`; `release` when it is looked at no more. */
export async function view(found, name) {
  const type = found.mimeType.split(';')[0].trim().toLowerCase();
  const nothing = () => {};
  if (type.startsWith('text/') || TEXTS.has(type)) return { node: await text(found.content), release: nothing };
  const properties = mediaOf(type, name);
  if (!properties) {
    return { node: element('p', { class: 'muted' }, 'There is no preview for this kind of file. You can save it.'), release: nothing };
  }
  const url = URL.createObjectURL(new Blob([found.content], { type }));
  const { tag, ...rest } = properties;
  return { node: watched(element(tag, { src: url, ...rest })), release: () => URL.revokeObjectURL(url) };
}

/** Hands the bytes to the browser's downloads; the neutral type keeps it from opening them. */
export function save(found, name) {
  const url = URL.createObjectURL(new Blob([found.content], { type: 'application/octet-stream' }));
  const anchor = element('a', { href: url, download: safeName(name ?? 'file') });
  anchor.click();
  // The download has its own hold on the blob once the click was handled.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function mediaOf(type, name) {
  if (IMAGES.has(type)) return { tag: 'img', alt: name };
  if (VIDEOS.has(type)) return { tag: 'video', controls: true, 'aria-label': name };
  if (SOUNDS.has(type)) return { tag: 'audio', controls: true, 'aria-label': name };
  if (type === 'application/pdf') return { tag: 'iframe', title: name, referrerpolicy: 'no-referrer' };
  return undefined;
}

/** A damaged picture is said to be one, instead of a broken frame. */
function watched(media) {
  media.addEventListener('error', () => {
    media.replaceWith(element('p', { class: 'muted' }, 'This browser cannot show this file. You can save it.'));
  });
  return media;
}

async function text(content) {
  // Four bytes are the longest character, so this cuts after what is shown, not before.
  const shown = (await content.slice(0, TEXT_SHOWN * 4).text()).slice(0, TEXT_SHOWN);
  const pre = element('pre', { tabindex: '0' }, shown);
  if (shown.length < TEXT_SHOWN) return pre;
  return element('div', {}, pre, element('p', { class: 'muted' }, 'Only the beginning is shown. Save the file to see all of it.'));
}
