// What people are called. A name is what its owner says; the end of the id, shown beside it, is what nobody can choose.

import { cut, undisguised } from '../format.js';

/** Characters of a name. */
export const NAME_MAX = 32;

const TEMPERS = (
  'amber brave bright calm clever coral cosy crisp daring eager fair fond gentle glad golden happy ' +
  'hazel jolly keen kind lively lucky mellow merry noble quick quiet silver sunny swift warm witty'
).split(' ');
const ANIMALS = (
  'badger beaver bison crane deer dolphin falcon finch fox gecko hare heron ibis koala lark lemur ' +
  'lynx marten moose newt otter owl panda puffin raven robin seal sparrow stork swan tern wren'
).split(' ');

/** A name as it may be shown; empty if nothing of it can be seen. */
export function cleanName(name) {
  const line = cut(undisguised(cut(name, 4 * NAME_MAX)).replace(/\s+/gu, ' ').trim(), NAME_MAX);
  return /[\p{L}\p{N}\p{P}\p{S}]/u.test(line.replaceAll('\ufffd', '')) ? line : '';
}

/** What somebody is called who has not said it: the same in every browser. */
export function nickname(id) {
  const number = hash(id);
  const words = [TEMPERS[number % TEMPERS.length], ANIMALS[(number >>> 8) % ANIMALS.length]];
  return words.map((word) => word[0].toUpperCase() + word.slice(1)).join(' ');
}

/** The end of an id tells people of one name apart. */
export function tag(id) {
  return id.slice(-6);
}

/** One or two letters for a badge. */
export function initials(name) {
  const letters = name.split(/\s+/u).map((word) => [...word].find((letter) => /[\p{L}\p{N}]/u.test(letter)) ?? '');
  return letters.filter(Boolean).slice(0, 2).join('').toUpperCase() || '?';
}

/** Which of so many colours somebody has. */
export function colour(id, count) {
  return (hash(id) >>> 16) % count;
}

/** FNV-1a; well enough spread for names and colours. */
function hash(text) {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  return value >>> 0;
}
