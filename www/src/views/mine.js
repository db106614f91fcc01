// The tree of this peer: open, save, share, remove, new folder.

import { coalesced } from '../coalesce.js';
import { byId, element } from '../dom.js';
import { safeName } from '../format.js';
import { linkToFile } from '../link.js';
import { peer } from '../peer.js';
import * as get from './get.js';
import { problem } from './notices.js';
import { tree } from './tree.js';

const opened = new Set();

export function start() {
  byId('new-folder').addEventListener('submit', makeFolder);
  peer.addEventListener('tree', render);
  render();
}

const render = coalesced(async () => {
  try {
    const { entries } = await peer.client.listFiles();
    const empty = Object.keys(entries).length === 0;
    byId('my-tree').replaceChildren(
      empty ? element('p', { class: 'muted empty' }, 'No files yet.') : tree(entries, { open, save, remove, link }, opened),
    );
  } catch (error) {
    problem(error, 'Your files could not be listed.');
  }
});

const open = (path, { cid }) => get.fetchAndShow(cid, undefined, safeName(path));
const save = (path, { cid }) => get.fetchAndSave(cid, undefined, safeName(path));
const link = ({ cid }) => linkToFile(cid, peer.client.peerID);

async function remove(path, entry) {
  const name = safeName(path);
  const question = entry.type === 'directory' ? `Remove the folder “${name}” with all that is in it?` : `Remove “${name}”?`;
  if (!(await agreed(question))) return;
  try {
    await peer.removeFile(path);
  } catch (error) {
    problem(error, `“${name}” was not removed.`);
  }
}

async function makeFolder(event) {
  event.preventDefault();
  const form = event.target;
  const path = form.elements.path.value.trim().replace(/^\/+|\/+$/g, '');
  try {
    await peer.createDirectory(path);
    form.reset();
  } catch (error) {
    problem(error, 'The folder was not made.');
  }
}

function agreed(question) {
  const dialog = byId('question');
  byId('question-text').textContent = question;
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}
