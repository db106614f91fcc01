// The few lines that stand in for a framework. Children are text or nodes, never markup.

const SVG = 'http://www.w3.org/2000/svg';

export const byId = (id) => document.getElementById(id);

/** Makes an element; functions among the properties named on… become listeners. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (typeof value === 'function') made.addEventListener(name.slice(2).toLowerCase(), value);
    else if (name in made && typeof value !== 'string') made[name] = value;
    else made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.filter((child) => child !== undefined));
  return made;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows only an icon; its label is for tool tips and screen readers. */
export function iconButton(name, label, onclick) {
  return element('button', { type: 'button', class: 'icon-button', title: label, 'aria-label': label, onclick }, icon(name));
}

/** Changes a text only when it is another one, so that a selection in it stays. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const rowsOf = new WeakMap();

/**
 * Makes the children of `list` those of `items`, in this order. A child stays the same element as long as its item's key
 * does: `make(item)` makes `{node, update?(item), gone?()}`.
 */
export function keyed(list, items, keyOf, make) {
  const before = rowsOf.get(list) ?? new Map();
  const focused = list.contains(document.activeElement) ? document.activeElement : undefined;
  const rows = new Map();
  for (const item of items) {
    const key = keyOf(item);
    const row = before.get(key) ?? make(item);
    row.update?.(item);
    rows.set(key, row);
  }
  for (const [key, row] of before) {
    if (rows.has(key)) continue;
    row.gone?.();
    row.node.remove();
  }
  let place = list.firstElementChild;
  for (const { node } of rows.values()) {
    if (node === place) place = place.nextElementSibling;
    else list.insertBefore(node, place);
  }
  // An element that is moved loses the focus.
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  rowsOf.set(list, rows);
}

/** Has a screen reader say what happened elsewhere on the page, once. */
export function say(text) {
  // A new node is said even when the text is that of the last time.
  byId('said').replaceChildren(element('span', {}, text));
}

/** Copies a text and says so for a moment. */
export function copyButton(label, text, name = 'copy') {
  return iconButton(name, label, async (event) => {
    const button = event.currentTarget;
    try {
      await navigator.clipboard.writeText(text);
      button.dataset.done = 'copied';
    } catch {
      button.dataset.done = 'not allowed';
    }
    say(button.dataset.done);
    setTimeout(() => delete button.dataset.done, 1500);
  });
}

/** A long id: shortened to look at, whole to copy and to read out. */
export function idText(id, shortened) {
  return element(
    'code',
    { title: id, 'data-id': id },
    element('span', { 'aria-hidden': 'true' }, shortened),
    element('span', { class: 'spoken' }, id),
  );
}
