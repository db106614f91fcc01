// A tree of files as nested lists. Trees of other peers may be huge and hostile: folders are rendered
// when they are opened, and only so many entries of each.

import { copyButton, element, icon, iconButton } from '../dom.js';
import { bytes, kind, safeName } from '../format.js';

/** Entries of one folder that are rendered. */
const SHOWN = 500;

/** Sizes learnt by storing and getting; the list of files itself has none. */
const sizes = new Map();
const SIZES_KEPT = 10_000;

export function rememberSize(cid, size) {
  if (sizes.size >= SIZES_KEPT) sizes.delete(sizes.keys().next().value);
  sizes.set(cid, size);
}

/**
 * Renders a list of files.
 * @param entries as listFiles returns them
 * @param actions `{open(path, entry), save(path, entry), remove?(path, entry), link?(entry)}`
 * @param opened paths of folders that are open, kept by the caller between two renderings
 */
export function tree(entries, actions, opened = new Set()) {
  return list(nest(entries), actions, opened, 'Files');
}

function nest(entries) {
  const top = new Map();
  const paths = Object.keys(entries).sort((a, b) => (a < b ? -1 : 1));
  for (const path of paths) {
    let folder = top;
    let soFar = '';
    for (const part of path.split('/')) {
      soFar = soFar ? `${soFar}/${part}` : part;
      let node = folder.get(part);
      if (node === undefined) {
        node = { path: soFar, name: part, entry: entries[soFar], children: new Map() };
        folder.set(part, node);
      }
      folder = node.children;
    }
  }
  return top;
}

function list(nodes, actions, opened, label) {
  const isFolder = (node) => node.entry === undefined || node.entry.type === 'directory';
  const sorted = [...nodes.values()].sort((a, b) => isFolder(b) - isFolder(a));
  const shown = sorted.slice(0, SHOWN).map((node) => (isFolder(node) ? folder(node, actions, opened) : file(node, actions)));
  if (sorted.length > SHOWN) shown.push(element('li', { class: 'muted' }, `and ${sorted.length - SHOWN} more`));
  return element('ul', { 'aria-label': label }, ...shown);
}

function folder(node, actions, opened) {
  const name = safeName(node.name);
  const count = node.children.size;
  const details = element('details', { 'data-path': node.path });
  const fill = () => {
    if (details.open && details.children.length === 1) {
      details.append(count > 0 ? list(node.children, actions, opened, name) : element('p', { class: 'muted empty' }, 'Empty folder'));
    }
  };
  details.append(
    element(
      'summary',
      {},
      icon('folder'),
      element('span', { class: 'name' }, name),
      element('span', { class: 'muted kind' }, count === 0 ? 'empty' : count === 1 ? '1 entry' : `${count} entries`),
      buttons(node, actions),
    ),
  );
  details.addEventListener('toggle', () => {
    if (details.open) opened.add(node.path);
    else opened.delete(node.path);
    fill();
  });
  if (opened.has(node.path)) {
    details.open = true;
    fill();
  }
  return element('li', { class: 'folder' }, details);
}

function file(node, actions) {
  const name = safeName(node.name);
  const size = sizes.get(node.entry.cid);
  const facts = [kind(node.entry.mimeType), size === undefined ? '' : bytes(size)].filter(Boolean).join(', ');
  const open = element('button', { type: 'button', class: 'name', onclick: () => actions.open(node.path, node.entry) }, name);
  return element(
    'li',
    { class: 'file', 'data-path': node.path, 'data-cid': node.entry.cid },
    icon('file'),
    open,
    element('span', { class: 'muted kind' }, facts),
    buttons(node, actions),
  );
}

function buttons({ path, name, entry }, actions) {
  const row = element('span', { class: 'actions' });
  if (entry === undefined) return row;
  const shown = safeName(name);
  // A button inside a summary must not also toggle it.
  const only = (action) => (event) => {
    event.preventDefault();
    action(path, entry);
  };
  if (entry.type === 'file') row.append(iconButton('save', `Save ${shown}`, only(actions.save)));
  if (typeof entry.cid === 'string') {
    row.append(copyButton(`Copy the CID of ${shown}`, entry.cid));
    if (actions.link) row.append(copyButton(`Copy a link to ${shown}`, actions.link(entry), 'link'));
  }
  if (actions.remove) row.append(iconButton('remove', `Remove ${shown}`, only(actions.remove)));
  return row;
}
