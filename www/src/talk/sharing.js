// Files into a conversation: stored in this peer's tree, then their CID is sent.

import { explain } from '../errors.js';
import { safeName } from '../format.js';
import { peer } from '../peer.js';
import { problem } from '../views/notices.js';
import { compose, deliver } from './outbox.js';
import { freePath } from './paths.js';
import { session } from './session.js';

/** Files that are taken of one drop; a folder of many is better shared whole, under Files. */
export const FILES_AT_ONCE = 10;
const FOLDER = 'shared';

/** One after the other: each looks for a name that is free. */
let last = Promise.resolve();

export function share(conversation, files) {
  for (const file of files.slice(0, FILES_AT_ONCE)) {
    const abort = new AbortController();
    const { size, type: mimeType } = file;
    const message = compose(conversation, { file: { name: safeName(file.name), size, mimeType }, state: 'storing', progress: 0, abort });
    last = last.then(() => store(conversation, message, file));
  }
  if (files.length > FILES_AT_ONCE) {
    problem({ message: `${files.length} files` }, `Only the first ${FILES_AT_ONCE} files were taken.`);
  }
}

/** Gives a file up that is being stored. */
export function cancel(conversation, message) {
  message.abort.abort();
  session.conversations.withdraw(conversation.key, message.key);
  session.tell('conversations');
}

async function store(conversation, message, content) {
  const { signal } = message.abort;
  if (signal.aborted) return;
  try {
    const { entries } = await peer.client.listFiles();
    const path = freePath(entries, FOLDER, message.file.name);
    const onProgress = ({ bytes }) => {
      message.progress = content.size === 0 ? 1 : bytes / content.size;
      session.tell('conversations');
    };
    const { fileCid } = await peer.storeFile(path, content, { signal, onProgress });
    message.file.cid = fileCid;
  } catch (error) {
    if (signal.aborted) return;
    // Without a CID there is nothing to try again.
    session.conversations.settle(conversation.key, message.key, { state: 'failed', problem: explain(error).sentence });
    session.tell('conversations');
    return;
  }
  if (!signal.aborted) deliver(conversation, message);
}
