// Gets content by CID and keeps the page's own books about it.

import { peer } from './peer.js';
import { rememberSize } from './views/tree.js';

/**
 * What a CID names: a folder, or a file whose bytes are its `content`, a Blob; and whether it was `here` already.
 * `onProgress(done, size)` is called as bytes arrive; one that throws ends it.
 */
export async function fetchContent(cid, from, { signal, sources, onProgress }) {
  const here = await peer.client.hasFile(cid);
  const found = await peer.client.getFile(cid, from, { signal, sources, stream: true });
  if (found.type === 'file') {
    found.content = await read(found, onProgress);
    rememberSize(cid, found.size);
  }
  if (!here) peer.dispatchEvent(new Event('kept'));
  return { found, here };
}

/** All of a file as it arrives, as a Blob that the browser may put on disk. */
async function read(file, onProgress) {
  const parts = [];
  let done = 0;
  onProgress(done, file.size);
  const reader = file.stream().getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    parts.push(new Blob([next.value]));
    done += next.value.length;
    onProgress(done, file.size);
  }
  return new Blob(parts);
}
