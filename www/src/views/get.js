// Gets a file or folder by CID, with progress and cancel, then shows or saves it.

import { byId, element, say } from '../dom.js';
import { fetchContent } from '../fetching.js';
import { bytes, short } from '../format.js';
import { save } from '../media.js';
import { describe, summary } from './notices.js';
import { show } from './preview.js';

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
  const found = await attempt(cid, from, name);
  if (found) show(found, { cid, from, name: name ?? short(cid) });
}

export async function fetchAndSave(cid, from, name) {
  const found = await attempt(cid, from, name);
  if (found?.type === 'file') save(found, name);
}

/** The content, a file's bytes as its `content`; or undefined after a failure that has been shown. A newer call takes the place of an older one. */
async function attempt(cid, from, name) {
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
    const onProgress = (done, size) => {
      bar.max = size;
      bar.value = done;
      amount.textContent = `${bytes(done)} of ${bytes(size)}`;
    };
    const { found, here } = await fetchContent(cid, from, { signal: abort.signal, sources: sources(), onProgress });
    if (current !== abort) return undefined;
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const what = found.type === 'file' ? bytes(found.size) : 'a folder';
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
