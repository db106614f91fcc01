// A file in a conversation: stored with progress on one side, got with progress and looked at on the other.

import { copyButton, element, icon, say } from '../../dom.js';
import { fetchContent } from '../../fetching.js';
import { bytes, kind } from '../../format.js';
import { linkToFile } from '../../link.js';
import { save, view } from '../../media.js';
import { peer } from '../../peer.js';
import { describe, summary } from '../../views/notices.js';
import { cancel } from '../sharing.js';

/** `{node, update(message), gone()}` */
export function fileCard(conversation, { from, mine, file }) {
  const { name } = file;
  const facts = [kind(file.mimeType), file.size === undefined ? '' : bytes(file.size)].filter(Boolean).join(', ');
  const doing = element('div', { class: 'doing' });
  const look = element('div', { class: 'preview', hidden: true });
  const title = element('span', { class: 'lines' }, element('bdi', { class: 'who' }, name), element('span', { class: 'muted facts' }, facts));
  const node = element('div', { class: 'file-card' }, element('div', { class: 'file-line' }, icon('file'), title), doing, look);
  let abort;
  let release;
  let ended = false;
  let bar;

  /** What can be done now; the focus stays at this place. */
  function offer(state, ...controls) {
    const focused = doing.contains(document.activeElement);
    node.dataset.state = state;
    doing.replaceChildren(...controls);
    if (focused) doing.querySelector('button')?.focus({ preventScroll: true });
  }

  function idle(...before) {
    const control = button(mine ? 'Show' : 'Get', `${mine ? 'Show' : 'Get'} ${name}`, () => get(false));
    offer('idle', ...before, control, link());
    if (mine) return;
    // What was got before is still there.
    peer.client.hasFile(file.cid).then((here) => {
      if (!here) return;
      control.textContent = 'Show';
      control.ariaLabel = `Show ${name}`;
    }, () => {});
  }

  function link() {
    return copyButton(`Copy a link to ${name}`, linkToFile(file.cid, from), 'link');
  }

  /** `anySize`: also when it is larger than its sender said. */
  async function get(anySize) {
    abort = new AbortController();
    bar = element('progress', { 'aria-label': `Getting ${name}` });
    const amount = element('span', { class: 'muted' }, 'looking for it…');
    offer('busy', bar, amount, button('Cancel', `Cancel getting ${name}`, () => abort.abort()));
    const onProgress = (done, size) => {
      if (!anySize && !(size <= file.size)) throw new Larger(size);
      bar.max = size;
      bar.value = done;
      amount.textContent = `${bytes(done)} of ${bytes(size)}`;
    };
    try {
      const { found } = await fetchContent(file.cid, mine ? undefined : from, { signal: abort.signal, onProgress });
      if (ended) return;
      await show(found);
    } catch (error) {
      if (ended) return;
      fail(error);
    }
  }

  async function show(found) {
    if (found.type !== 'file') {
      offer('got', element('span', { class: 'muted' }, 'This is a folder.'), link());
      return;
    }
    const shown = await view(found, name);
    if (ended) {
      shown.release();
      return;
    }
    release = shown.release;
    look.replaceChildren(shown.node);
    look.hidden = false;
    offer('got', button('Save', `Save ${name}`, () => save(found, name)), link());
    if (!mine) say(`${name} is here`);
  }

  function fail(error) {
    if (error instanceof Larger) {
      offer('larger', element('span', {}, `${error.message} `), button('Get it anyway', `Get ${name} anyway`, () => get(true)));
      return;
    }
    const what = error?.name === 'AbortError' ? '' : 'It could not be got.';
    say(summary(error, what));
    idle(describe(error, what));
    node.dataset.state = 'failed';
  }

  return {
    node,
    update(message) {
      if (message.state === 'storing') {
        if (!bar) {
          bar = element('progress', { max: 1, value: 0, 'aria-label': `Storing ${name}` });
          offer('storing', bar, button('Cancel', `Cancel storing ${name}`, () => cancel(conversation, message)));
        }
        bar.value = message.progress;
      } else if (file.cid && (node.dataset.state === undefined || node.dataset.state === 'storing')) {
        idle();
      } else if (!file.cid) {
        offer('failed');
      }
    },
    gone() {
      ended = true;
      abort?.abort();
      release?.();
    },
  };
}

/** A sender may say anything; what was agreed to is what was said. */
class Larger extends Error {
  constructor(size) {
    super(`Its sender did not say that it is so large: ${bytes(size)}.`);
  }
}

function button(text, label, onclick) {
  return element('button', { type: 'button', class: 'plain', 'aria-label': label, onclick }, text);
}
