// Drop or choose files and folders: progress, then CID and path.

import { byId, copyButton, element, idText, say } from '../dom.js';
import { bytes, safeName, short } from '../format.js';
import { linkToFile } from '../link.js';
import { peer } from '../peer.js';
import { describe, problem, summary } from './notices.js';
import { rememberSize } from './tree.js';

/** Files stored at the same time; more would only queue in the browser's database. */
const TOGETHER = 8;
/** Rows kept in the list of stored files. */
const ROWS = 50;
/** Entries read from one dropped folder tree. */
const DROPPED = 100_000;

const waiting = [];
let running = 0;
/** What came of the files since all was quiet, to be said once: a line for each would not end. */
let outcomes = [];

export function start() {
  const pick = byId('pick');
  pick.addEventListener('change', () => {
    add([...pick.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
    pick.value = '';
  });
  const drop = byId('drop');
  for (const event of ['dragenter', 'dragover']) {
    drop.addEventListener(event, (drag) => {
      drag.preventDefault();
      drop.classList.add('over');
    });
  }
  drop.addEventListener('dragleave', (drag) => {
    if (!drop.contains(drag.relatedTarget)) drop.classList.remove('over');
  });
  drop.addEventListener('drop', async (drag) => {
    drag.preventDefault();
    drop.classList.remove('over');
    try {
      add(await dropped(drag.dataTransfer));
    } catch (error) {
      problem(error, 'What was dropped could not be read.');
    }
  });
  // A file that misses the field must not replace the page.
  for (const event of ['dragover', 'drop']) addEventListener(event, (drag) => drag.preventDefault());
}

function add(files) {
  const folder = byId('folder').value.trim().replace(/^\/+|\/+$/g, '');
  for (const { path, file } of files) waiting.push({ path: folder ? `${folder}/${path}` : path, file });
  while (running < TOGETHER && waiting.length > 0) work();
}

async function work() {
  running += 1;
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await storeOne(next);
  running -= 1;
  if (running > 0) return;
  const failed = outcomes.filter((outcome) => outcome.failed).length;
  const counts = [`${outcomes.length - failed} files stored`, failed > 0 ? `${failed} not stored` : ''];
  say(outcomes.length === 1 ? outcomes[0].text : counts.filter(Boolean).join(', '));
  outcomes = [];
}

async function storeOne({ path, file }) {
  const abort = new AbortController();
  const bar = element('progress', { max: 1, value: 0, 'aria-label': `Storing ${safeName(path)}` });
  const cancel = element('button', { type: 'button', class: 'plain', onclick: () => abort.abort() }, 'Cancel');
  const row = element('li', { 'data-path': path }, element('span', { class: 'name' }, path), bar, cancel);
  const rows = byId('uploads');
  rows.prepend(row);
  while (rows.children.length > ROWS) rows.lastElementChild.remove();
  try {
    const onProgress = (progress) => {
      bar.value = file.size === 0 ? 1 : progress.bytes / file.size;
    };
    const { fileCid } = await peer.storeFile(path, file, { signal: abort.signal, onProgress });
    rememberSize(fileCid, file.size);
    bar.remove();
    cancel.replaceWith(
      element('span', { class: 'muted' }, bytes(file.size)),
      idText(fileCid, short(fileCid, 12, 6)),
      element(
        'span',
        { class: 'actions' },
        copyButton(`Copy the CID of ${safeName(path)}`, fileCid),
        copyButton(`Copy a link to ${safeName(path)}`, linkToFile(fileCid, peer.client.peerID), 'link'),
      ),
    );
    row.dataset.cid = fileCid;
    outcomes.push({ failed: false, text: `${safeName(path)} stored` });
  } catch (error) {
    bar.remove();
    cancel.remove();
    row.classList.add('failed');
    row.append(describe(error, 'Not stored.'));
    outcomes.push({ failed: true, text: summary(error, `${safeName(path)} was not stored.`) });
  }
}

async function dropped(transfer) {
  // Entries must be taken before the first await: the list is emptied after the event.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) return [...transfer.files].map((file) => ({ path: file.name, file }));
  const files = [];
  const queue = [...entries];
  for (let entry = queue.shift(); entry !== undefined && files.length < DROPPED; entry = queue.shift()) {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      files.push({ path: entry.fullPath.replace(/^\//, ''), file });
    } else {
      queue.push(...(await children(entry)));
    }
  }
  return files;
}

async function children(folder) {
  const reader = folder.createReader();
  const all = [];
  for (;;) {
    // A reader hands out a hundred at a time, then none.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0 || all.length >= DROPPED) return all;
    all.push(...some);
  }
}
