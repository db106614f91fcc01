// Where one writes, and drops or attaches files.

import { byId, element, setText } from '../../dom.js';
import { takeDrops } from '../../drop.js';
import { CONVERSATIONS_MAX } from '../conversations.js';
import { say } from '../outbox.js';
import { session } from '../session.js';
import { share } from '../sharing.js';
import { TEXT_MAX, readText } from '../wire.js';
import { toEnd } from './log.js';

/** From here on it is said how much room is left. */
const NEARLY_FULL = TEXT_MAX - 200;

/** What was begun and not sent, by conversation. */
const drafts = new Map();
let writingIn;

export function start() {
  const form = byId('composer');
  const text = byId('text');
  text.maxLength = TEXT_MAX;
  byId('composer-fields').disabled = false;
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    send();
  });
  text.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  text.addEventListener('input', showRoomLeft);
  text.addEventListener('paste', (event) => {
    const files = [...event.clipboardData.files];
    if (files.length === 0) return;
    event.preventDefault();
    attach(files);
  });
  byId('attach').addEventListener('change', ({ target }) => {
    attach([...target.files]);
    target.value = '';
  });
  takeDrops(byId('conversation'), (dropped) => attach(dropped.map(({ file }) => file)));
  session.addEventListener('opened', follow);
}

function send() {
  const text = byId('text');
  const written = text.value.trim();
  if (!readText(written) || !session.opened) return;
  say(session.opened, { text: written });
  text.value = '';
  showRoomLeft();
  toEnd();
}

function attach(files) {
  if (!session.opened || files.length === 0) return;
  share(session.opened, files);
  toEnd();
}

/** Another conversation: what was begun stays with the one before. */
function follow() {
  const { opened } = session;
  if (!opened || opened === writingIn) return;
  const text = byId('text');
  if (writingIn) {
    drafts.delete(writingIn.key);
    if (text.value) drafts.set(writingIn.key, text.value);
    if (drafts.size > CONVERSATIONS_MAX) drafts.delete(drafts.keys().next().value);
  }
  writingIn = opened;
  text.value = drafts.get(opened.key) ?? '';
  const to = opened.kind === 'room' ? `#${opened.id}` : session.people.nameOf(opened.id);
  text.placeholder = `Message ${to}`;
  byId('text-label').replaceChildren('Message to ', element('bdi', {}, to));
  setText(byId('drop-here'), `Drop to send to ${to}`);
  showRoomLeft();
  // On a touch screen this would bring up the keyboard unasked.
  if (document.body.dataset.ready && matchMedia('(pointer: fine)').matches) text.focus({ preventScroll: true });
}

function showRoomLeft() {
  const { length } = byId('text').value;
  setText(byId('room-left'), length < NEARLY_FULL ? '' : `${TEXT_MAX - length} characters left`);
}
