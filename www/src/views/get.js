// Gets a file or folder by CID, with progress and cancel, then shows or saves it.

import { byId, element } from '../dom.js';
import { bytes, short } from '../format.js';
import { peer } from '../peer.js';
import { describe } from './notices.js';
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
  const bar = element('progress', { 'aria-label': `Getting ${name ?? short(cid)}` });
  const amount = element('span', { class: 'muted' }, 'looking for it…');
  const cancel = element('button', { type: 'button', class: 'plain', onclick: () => abort.abort() }, 'Cancel');
  place.dataset.state = 'busy';
  place.replaceChildren(element('p', {}, name ?? short(cid)), bar, element('p', { class: 'row' }, amount, cancel));
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
    const what = found.type === 'file' ? bytes(found.size) : 'a folder';
    if (found.type === 'file') rememberSize(cid, found.size);
    place.dataset.state = 'done';
    place.replaceChildren(element('p', { class: 'muted' }, `Got ${what} in ${seconds} s, verified and kept.`));
    return found;
  } catch (error) {
    if (current !== abort) return undefined;
    place.dataset.state = 'failed';
    place.replaceChildren(describe(error, error?.name === 'AbortError' ? '' : 'It could not be got.'));
    return undefined;
  }
}
