// What was said, the latest at the bottom. Stays at the bottom while somebody reads there.

import { beforePaint } from '../../coalesce.js';
import { byId, keyed } from '../../dom.js';
import { session } from '../session.js';
import { messageRow } from './message.js';

/** Messages of one author within this time need their name once. */
const TOGETHER_MS = 5 * 60_000;
/** Pixels from the bottom that still count as there. */
const NEAR = 40;

let atEnd = true;
let shown;

export function start() {
  const log = byId('log');
  log.addEventListener('scroll', () => {
    atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;
    if (atEnd) byId('to-end').hidden = true;
  });
  byId('to-end').addEventListener('click', () => {
    toEnd();
    byId('log').focus();
  });
  session.addEventListener('heard', ({ detail }) => {
    if (detail.seen && !atEnd) byId('to-end').hidden = false;
  });
  // Pictures that arrive, a composer that grows.
  const observer = new ResizeObserver(() => atEnd && toEnd());
  observer.observe(log);
  observer.observe(byId('messages'));
  const draw = beforePaint(render);
  for (const event of ['conversations', 'opened']) session.addEventListener(event, draw);
  render();
}

/** The writer sees what was written. */
export function toEnd() {
  const log = byId('log');
  log.scrollTop = log.scrollHeight;
  atEnd = true;
  byId('to-end').hidden = true;
}

function render() {
  const { opened } = session;
  const messages = opened?.messages ?? [];
  const rows = messages.map((message, at) => ({ conversation: opened, message, follows: follows(messages[at - 1], message) }));
  keyed(byId('messages'), rows, ({ conversation, message }) => `${conversation.key} ${message.key}`, messageRow);
  byId('nothing-yet').hidden = !opened || messages.length > 0;
  byId('nothing-in-room').hidden = opened?.kind !== 'room';
  byId('nothing-with').hidden = opened?.kind !== 'with';
  if (shown === opened) return;
  shown = opened;
  toEnd();
}

function follows(before, message) {
  return before?.from === message.from && before.name === message.name && message.at - before.at < TOGETHER_MS;
}
