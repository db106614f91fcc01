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

/** The content, or undefined after a failure that has been shown. A newer call takes the place of an older one. */
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
    const onProgress = (progress) => {
      if (progress.total) {
        bar.max = progress.total;
        bar.value = progress.bytes;
      }
      amount.textContent = progress.total ? `${bytes(progress.bytes)} of ${bytes(progress.total)}` : bytes(progress.bytes);
    };
    const found = await peer.client.getFile(cid, from, { signal: abort.signal, onProgress });
    if (current !== abort) return undefined;
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    // The listing of another peer's folder is verified, but only files are kept.
    const file = found.type === 'file';
    const outcome = file ? `Got ${bytes(found.size)} in ${seconds} s, verified and kept.` : `Got a folder in ${seconds} s, verified.`;
    if (file) rememberSize(cid, found.size);
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
