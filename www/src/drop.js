// Files and folders dropped on a part of the page.

import { problem } from './views/notices.js';

/** Entries read from one dropped folder tree. */
const DROPPED = 100_000;

/** Calls `take([{path, file}])` with what is dropped on `place`, which has the class `over` while something is above it. */
export function takeDrops(place, take) {
  for (const event of ['dragenter', 'dragover']) {
    place.addEventListener(event, (drag) => {
      if (!drag.dataTransfer?.types.includes('Files')) return;
      drag.preventDefault();
      place.classList.add('over');
    });
  }
  place.addEventListener('dragleave', (drag) => {
    if (!place.contains(drag.relatedTarget)) place.classList.remove('over');
  });
  place.addEventListener('drop', async (drag) => {
    drag.preventDefault();
    place.classList.remove('over');
    try {
      take(await dropped(drag.dataTransfer));
    } catch (error) {
      problem(error, 'What was dropped could not be read.');
    }
  });
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
