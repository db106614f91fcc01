// One message: who, what, when, and what became of it. All of it is text; nothing in it is taken for markup.

import { element, icon, setText } from '../../dom.js';
import { tag } from '../names.js';
import { deliver } from '../outbox.js';
import { badge } from './badge.js';
import { fileCard } from './file-card.js';

const STATES = {
  storing: { icon: 'clock', label: 'Storing' },
  sending: { icon: 'clock', label: 'Sending' },
  sent: { icon: 'tick', label: 'Sent' },
  delivered: { icon: 'ticks', label: 'Delivered' },
  failed: { icon: 'failed', label: 'Not delivered' },
};

export function messageRow({ conversation, message }) {
  const face = badge(message.from);
  face.update(message.name);
  const by = element('p', { class: 'by' }, element('bdi', { class: 'who' }, message.name), element('span', { class: 'muted' }, ` …${tag(message.from)}`));
  const card = message.file && fileCard(conversation, message);
  const content = card?.node ?? element('p', { class: 'text', dir: 'auto' }, message.text);
  const tick = message.mine ? element('span', { class: 'tick', role: 'img' }) : undefined;
  const foot = element('p', { class: 'foot muted' }, time(message.at), tick);
  const trouble = element('p', { class: 'trouble', hidden: true });
  const bubble = element('div', { class: 'bubble' }, by, content, foot, trouble);
  const node = element('li', { class: 'message', 'data-mine': String(message.mine) }, face.node, bubble);
  let shown;
  return {
    node,
    gone: () => card?.gone(),
    update({ message, follows }) {
      node.classList.toggle('follows', follows);
      card?.update(message);
      const now = `${message.state} ${message.problem}`;
      if (!message.mine || now === shown) return;
      shown = now;
      node.dataset.state = message.state;
      const state = STATES[message.state];
      tick.replaceChildren(icon(state.icon));
      tick.ariaLabel = state.label;
      tick.title = state.label;
      showTrouble(trouble, conversation, message);
    },
  };
}

/** Why it failed; what was sent at all can be sent again. */
function showTrouble(place, conversation, message) {
  const failed = message.state === 'failed';
  place.hidden = !failed;
  const focused = place.contains(document.activeElement);
  place.replaceChildren();
  if (!failed) {
    // The button is gone; reading goes on at the message.
    if (focused) place.closest('.log')?.focus({ preventScroll: true });
    return;
  }
  place.append(element('span', {}, `Not delivered. ${message.problem ?? ''} `));
  if (message.file && !message.file.cid) return;
  place.append(element('button', { type: 'button', class: 'plain', onclick: () => deliver(conversation, message) }, 'Try again'));
}

function time(at) {
  const then = new Date(at);
  const today = then.toDateString() === new Date().toDateString();
  const clock = { hour: '2-digit', minute: '2-digit' };
  const shown = today ? then.toLocaleTimeString([], clock) : then.toLocaleString([], { day: 'numeric', month: 'short', ...clock });
  const node = element('time', { datetime: then.toISOString() });
  setText(node, shown);
  return node;
}
