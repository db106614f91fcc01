// What pages say to each other, in rooms and directly, and what can be read of it. It may come from anyone: what is
// read is of the right type and bounded, or it is nothing.

import { cut, safeName } from '../format.js';
import { NAME_MAX, cleanName } from './names.js';

/** Direct messages. */
export const PROTOCOL = 'tabpeer-demo/direct/1';
/** Characters of a message. */
export const TEXT_MAX = 4000;

const ID = /^[\w-]{1,64}$/;
const CID = /^[A-Za-z0-9]{10,128}$/;
const PEER = /^[1-9A-HJ-NP-Za-km-z]{40,64}$/;

export function topicOf(room) {
  return `tabpeer-demo/room/${room}`;
}

/** A room's name as everybody writes it, as long as a person's at most; empty if it is none. */
export function roomName(text) {
  return cut(cleanName(text).replace(/^#+\s*/, '').toLowerCase().replace(/\s+/gu, '-'), NAME_MAX);
}

/** The peer id in what somebody has pasted: an id, or a link that names one. */
export function peerIn(text) {
  const word = text.trim();
  if (PEER.test(word)) return word;
  const link = URL.canParse(word) ? new URL(word) : undefined;
  if (!link) return undefined;
  const hash = new URLSearchParams(link.hash.slice(1));
  return [link.searchParams.get('peer'), hash.get('with'), hash.get('peer')].find((id) => id && PEER.test(id));
}

/** Says who one is; `ask` wants the same in return. */
export function hello(name, ask = false) {
  return ask ? { type: 'hello', name, ask } : { type: 'hello', name };
}

/** A message with its content, which is `{text}` or `{file: {cid, name, size, mimeType}}`. */
export function message(id, name, { text, file }) {
  return file ? { type: 'file', id, name, file } : { type: 'text', id, name, text };
}

/**
 * What somebody sent: `{type: 'hello', name, ask}`, `{type: 'text', id, name, text}`, `{type: 'file', id, name, file}`,
 * or nothing. A text that is too long loses its end.
 */
export function read(data) {
  if (typeof data !== 'object' || data === null) return undefined;
  const name = typeof data.name === 'string' ? cleanName(data.name) : '';
  if (data.type === 'hello') return { type: 'hello', name, ask: data.ask === true };
  if (typeof data.id !== 'string' || !ID.test(data.id)) return undefined;
  const content = data.type === 'text' ? { text: readText(data.text) } : data.type === 'file' ? { file: readFile(data.file) } : {};
  const [value] = Object.values(content);
  return value && { type: data.type, id: data.id, name, ...content };
}

export function readText(text) {
  if (typeof text !== 'string' || text.trim() === '') return undefined;
  return text.length <= TEXT_MAX ? text : `${cut(text, TEXT_MAX - 1)}…`;
}

export function readFile(file) {
  if (typeof file !== 'object' || file === null) return undefined;
  const { cid, name, size, mimeType } = file;
  if (typeof cid !== 'string' || !CID.test(cid) || typeof name !== 'string') return undefined;
  return {
    cid,
    name: safeName(cut(name, 1024)),
    size: Number.isSafeInteger(size) && size >= 0 ? size : undefined,
    mimeType: typeof mimeType === 'string' ? cut(mimeType, 100) : '',
  };
}

export function isPeer(id) {
  return typeof id === 'string' && PEER.test(id);
}
