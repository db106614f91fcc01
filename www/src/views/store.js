// Drop or choose files and folders: progress, then CID and path.

import { byId, copyButton, element, idText, say } from '../dom.js';
import { takeDrops } from '../drop.js';
import { bytes, safeName, short } from '../format.js';
import { linkToFile } from '../link.js';
import { peer } from '../peer.js';
import { describe, summary } from './notices.js';
import { rememberSize } from './tree.js';

/** Files stored at the same time; more would only queue in the browser's database. */
const TOGETHER = 8;
/** Rows kept in the list of stored files. */
const ROWS = 50;

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
  takeDrops(byId('drop'), add);
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
