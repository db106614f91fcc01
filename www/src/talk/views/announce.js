// Says new messages to those who cannot see them, and counts them in the title for those who look elsewhere.

import { byId, say, setText } from '../../dom.js';
import { session } from '../session.js';

/** What comes within this time is said together: a line for each would not end. */
const TOGETHER_MS = 500;
const TITLE = document.title;

let lines = [];

export function start() {
  session.addEventListener('heard', ({ detail }) => {
    if (lines.length === 0) setTimeout(sayThem, TOGETHER_MS);
    // Two are enough to know that it was more than one.
    if (lines.length < 2) lines.push(detail.line);
  });
  for (const event of ['conversations', 'opened']) session.addEventListener(event, count);
  count();
}

function sayThem() {
  say(lines.length === 1 ? lines[0] : 'Several new messages');
  lines = [];
}

function count() {
  const { unread } = session.conversations;
  const title = unread > 0 ? `(${unread}) ${TITLE}` : TITLE;
  if (document.title !== title) document.title = title;
  const badge = byId('unread');
  badge.hidden = unread === 0;
  setText(badge.firstElementChild, String(unread));
}
