// Gets a file or folder by CID, with progress and cancel, then shows or saves it.

import { byId, element, say } from '../dom.js';
import { bytes, short } from '../format.js';
import { peer } from '../peer.js';
import { describe, summary } from './notices.js';
import { save, show } from './preview.js';
import { rememberSize } from './tree.js';

let current;

export function start() {
  byId('get').addEventListener('submit', (event) => {
    event.preventDefault();
    const { cid, from } = event.target.elements;
    fetchAndShow(cid.value.trim(), from.value.trim() || undefined);
  });
}

/** Where the form says to look; everywhere, unless something is chosen. */
function sources() {
  const { value } = byId('get').elements.where;
  return value ? value.split(' ') : undefined;
}

/** Gets as if the form had been filled in. */
export function open(cid, from) {
  const { elements } = byId('get');
  elements.cid.value = cid;
  elements.from.value = from;
  fetchAndShow(cid, from || undefined);
}

export async function fetchAndShow(cid, from, name) {
  const found = await fetchContent(cid, from, name);
  if (found) show(found, { cid, from, name: name ?? short(cid) });
}

export async function fetchAndSave(cid, from, name) {
  const found = await fetchContent(cid, from, name);
  if (found?.type === 'file') save(found, name);
}

/** The content, a file's bytes as its `content`; or undefined after a failure that has been shown. A newer call takes the place of an older one. */
async function fetchContent(cid, from, name) {
  current?.abort();
  const abort = new AbortController();
  current = abort;
  const place = byId('fetch');
  const shown = name ?? short(cid);
  const bar = element('progress', { 'aria-label': `Getting ${shown}` });
  const amount = element('span', { class: 'muted' }, 'looking for it…');
  const cancel = element('button', { type: 'button', class: 'plain', onclick: () => abort.abort() }, 'Cancel');
  place.dataset.state = 'busy';
  place.replaceChildren(element('p', {}, shown), bar, element('p', { class: 'row' }, amount, cancel));
  say(`Getting ${shown}`);
  const started = performance.now();
  try {
    const here = await peer.client.hasFile(cid);
    const options = { signal: abort.signal, sources: sources(), stream: true };
    const found = await peer.client.getFile(cid, from, options);
    const file = found.type === 'file';
    if (file) {
      rememberSize(cid, found.size);
      found.content = await read(found, (done) => {
        bar.max = found.size;
        bar.value = done;
        amount.textContent = `${bytes(done)} of ${bytes(found.size)}`;
      });
    }
    if (!here) peer.dispatchEvent(new Event('kept'));
    if (current !== abort) return undefined;
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const what = file ? bytes(found.size) : 'a folder';
    const outcome = here ? `Read ${what} from this browser's storage.` : `Got ${what} from others in ${seconds} s, verified and kept.`;
    place.dataset.state = 'done';
    place.replaceChildren(element('p', { class: 'muted' }, outcome));
    say(outcome);
    return found;
  } catch (error) {
    if (current !== abort) return undefined;
    place.dataset.state = 'failed';
    const what = error?.name === 'AbortError' ? '' : 'It could not be got.';
    place.replaceChildren(describe(error, what));
    say(summary(error, what));
    return undefined;
  }
}

/** All of a file as it arrives, as a Blob that the browser may put on disk. */
async function read(file, tell) {
  const parts = [];
  let done = 0;
  tell(done);
  const reader = file.stream().getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    parts.push(new Blob([next.value]));
    done += next.value.length;
    tell(done);
  }
  return new Blob(parts);
}
