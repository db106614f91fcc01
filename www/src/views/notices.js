// Problems, in words a person understands, until they are put away.

import { byId, element } from '../dom.js';
import { explain } from '../errors.js';

/** Older problems make room. */
const SHOWN = 4;

/** Shows a failure; `what` says what was being done, `way` is a way out: `{label, run}`. An abort is no failure. */
export function problem(error, what, way) {
  if (error?.name === 'AbortError') return;
  const notices = byId('notices');
  const text = describe(error, what);
  if (way) text.append(element('button', { type: 'button', class: 'plain', onclick: () => way.run().catch((failed) => problem(failed, '')) }, way.label));
  notices.append(element('div', { class: 'notice' }, text, dismiss()));
  while (notices.children.length > SHOWN) notices.firstElementChild.remove();
}

/** The same words for a place of one's own. */
export function describe(error, what) {
  const { technical } = explain(error);
  const text = element('div', { class: 'problem' }, element('p', {}, summary(error, what)));
  if (technical) {
    text.append(element('details', {}, element('summary', {}, 'Details'), element('code', {}, technical)));
  }
  return text;
}

/** What was being done and why it failed, in a line. */
export function summary(error, what) {
  return [what, explain(error).sentence].filter(Boolean).join(' ');
}

function dismiss() {
  const onclick = (event) => event.currentTarget.parentElement.remove();
  return element('button', { type: 'button', class: 'plain', 'aria-label': 'Dismiss', onclick }, '×');
}
