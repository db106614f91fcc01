// What the page makes of messages, names, links and its own memory; no browser needed.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hashOf, invitation, linkOf, route } from '../../www/src/route.js';
import { CONVERSATIONS_MAX, Conversations, MESSAGES_MAX } from '../../www/src/talk/conversations.js';
import { NAME_MAX, cleanName, initials, nickname } from '../../www/src/talk/names.js';
import { freePath } from '../../www/src/talk/paths.js';
import { CONTACTS_MAX, NAMES_MAX, People, ROOM_PEOPLE_MAX } from '../../www/src/talk/people.js';
import { KEPT_CHARACTERS, KEPT_CONVERSATIONS, KEPT_MESSAGES, ROOMS_MAX, pack, unpack } from '../../www/src/talk/saved.js';
import { TEXT_MAX, hello, message, peerIn, read, roomName, topicOf } from '../../www/src/talk/wire.js';

const ALICE = '12D3KooWQQK7pGPaTxZn2gtfxoVTyfJ8T4YQmgzTT5jKYpBdV7op';
const BOB = '12D3KooWR7EfNv5SLtgjMRjUwR8AvNu3hP4fLrtSa9fmHHXKYWNG';
const CID = 'bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy';
/** A peer id of its own for each number. */
const peerOf = (number) => ALICE.slice(0, -4) + String(number).replaceAll('0', 'z').padStart(4, 'a');

describe('messages of others', () => {
  test('what is said can be read', () => {
    assert.deepEqual(read(hello('Ann', true)), { type: 'hello', name: 'Ann', ask: true });
    assert.deepEqual(read(hello('Ann')), { type: 'hello', name: 'Ann', ask: false });
    assert.deepEqual(read(message('a-1', 'Ann', { text: 'hi' })), { type: 'text', id: 'a-1', name: 'Ann', text: 'hi' });
    const file = { cid: CID, name: 'cat.png', size: 12, mimeType: 'image/png' };
    assert.deepEqual(read(message('a-2', 'Ann', { file })), { type: 'file', id: 'a-2', name: 'Ann', file });
  });

  test('what is no message is nothing', () => {
    const file = { cid: CID, name: 'cat.png', size: 12 };
    const wrong = [
      ...[undefined, null, 0, 'text', [], {}, new Uint8Array(4), { type: 'other', id: 'a' }, { type: 'text', id: 'a' }],
      ...[{ type: 'text', id: 7, text: 'x' }, { type: 'text', id: 'a b', text: 'x' }, { type: 'text', id: 'a', text: ' \n' }],
      ...[{ type: 'text', id: 'x'.repeat(65), text: 'x' }, { type: 'text', id: 'a', text: ['x'] }, { type: 'file', id: 'a', file: CID }],
      ...[{ ...file, cid: '../x' }, { ...file, cid: 7 }, { ...file, name: undefined }, null].map((file) => ({ type: 'file', id: 'a', file })),
    ];
    for (const data of wrong) assert.equal(read(data), undefined, JSON.stringify(data));
  });

  test('what is too long loses its end, and what disguises is shown', () => {
    const { text, name } = read({ type: 'text', id: 'a', text: 'x'.repeat(100_000), name: `a\u202eb${'c'.repeat(100)}` });
    assert.equal(text.length, TEXT_MAX);
    assert.ok(text.endsWith('x…'));
    assert.equal(name, `a\ufffdb${'c'.repeat(NAME_MAX - 3)}`);
    // No half of a character stays.
    assert.ok(read({ type: 'text', id: 'a', text: 'x😀'.repeat(TEXT_MAX) }).text.isWellFormed?.() ?? true);
    const { file } = read({ type: 'file', id: 'a', file: { cid: CID, name: '../..\\evil\u202egnp.exe', size: -1, mimeType: {} } });
    assert.deepEqual(file, { cid: CID, name: '..\\evil\ufffdgnp.exe', size: undefined, mimeType: '' });
  });

  test('rooms and people are found by what was pasted', () => {
    assert.equal(roomName('  #My  Room '), 'my-room');
    assert.equal(roomName('\u200b'), '');
    assert.ok(Buffer.byteLength(topicOf(roomName('漢'.repeat(500)))) <= 200);
    for (const text of [BOB, ` ${BOB}\n`, `https://a.example/?peer=${BOB}`, `http://a/#with=${BOB}`, `http://a/x#peer=${BOB}`]) assert.equal(peerIn(text), BOB);
    for (const text of ['', 'nobody', 'https://a.example/?peer=nobody', `${BOB}0`]) assert.equal(peerIn(text), undefined);
  });
});

describe('names', () => {
  test('of those who said none are the same everywhere, and differ', () => {
    assert.equal(nickname(ALICE), nickname(ALICE));
    const all = new Set(Array.from({ length: 500 }, (_, n) => nickname(peerOf(n))));
    assert.ok(all.size > 300, `${all.size} of 500`);
    assert.match(nickname(BOB), /^[A-Z][a-z]+ [A-Z][a-z]+$/);
  });

  test('can be seen, or are none', () => {
    assert.equal(cleanName('  Ann \n Lee '), 'Ann \ufffd Lee');
    for (const name of ['', ' ', '\u200b\u200d', '\u202e', '\u0000']) assert.equal(cleanName(name), '');
    assert.equal(cleanName('😀'.repeat(99)).length, NAME_MAX);
    assert.deepEqual(['ann lee', 'Zoë', '<img>', '…', ''].map(initials), ['AL', 'Z', 'I', '?', '?']);
  });
});

describe('conversations', () => {
  const said = (n, mine = false) => ({ key: `${BOB}/${n}`, from: BOB, mine, name: 'Bob', at: n, text: `message ${n}` });

  test('keep the last messages, count the unread ones, and take none twice', () => {
    const all = new Conversations();
    const { key } = all.open('with', BOB);
    for (let n = 0; n < MESSAGES_MAX + 5; n += 1) assert.ok(all.add(key, said(n), n < 10));
    assert.equal(all.add(key, said(50), false), false);
    assert.equal(all.get(key).messages.length, MESSAGES_MAX);
    assert.equal(all.get(key).messages[0].text, 'message 5');
    assert.equal(all.unread, MESSAGES_MAX + 5 - 10);
    assert.equal(all.markSeen(key), true);
    assert.equal(all.markSeen(key), false);
    all.add(key, said(9999, true), false);
    assert.equal(all.unread, 0);
    assert.equal(all.add('with:nobody', said(1), false), false);
  });

  test('note what became of a message', () => {
    const all = new Conversations();
    const { key } = all.open('room', 'lobby');
    all.add(key, { ...said(1, true), state: 'sending' });
    all.settle(key, `${BOB}/1`, { state: 'failed', problem: 'gone' });
    assert.deepEqual([all.get(key).messages[0].state, all.get(key).messages[0].problem], ['failed', 'gone']);
    assert.equal(all.settle(key, 'other', { state: 'sent' }), undefined);
    all.withdraw(key, `${BOB}/1`);
    assert.deepEqual(all.get(key).messages, []);
  });

  test('that rested longest make room, unless they may not', () => {
    const all = new Conversations();
    for (let n = 0; n < CONVERSATIONS_MAX; n += 1) all.open('with', peerOf(n));
    all.add(`with:${peerOf(0)}`, said(1), true);
    assert.ok(all.open('with', BOB, ({ id }) => id !== peerOf(1)));
    assert.equal(all.all.length, CONVERSATIONS_MAX);
    assert.deepEqual([0, 1, 2].map((n) => all.get(`with:${peerOf(n)}`) !== undefined), [true, true, false]);
    assert.equal(all.open('with', ALICE, () => false), undefined);
    assert.equal(all.list('with')[0].id, BOB);
  });
});

describe('people', () => {
  test('are online while they are connected or in a room', () => {
    const people = new People();
    people.connect(BOB);
    people.enter('lobby', BOB);
    people.enter('other', BOB);
    people.disconnect(BOB);
    people.leave('lobby', BOB);
    assert.equal(people.isOnline(BOB), true);
    people.forgetRoom('other');
    assert.equal(people.isOnline(BOB), false);
  });

  test('are called what they say, and by their id until then', () => {
    const people = new People();
    assert.equal(people.nameOf(BOB), nickname(BOB));
    assert.equal(people.named(BOB, 'Bob'), true);
    assert.equal(people.named(BOB, 'Bob'), false);
    assert.equal(people.named(BOB, ''), false);
    people.addContact(BOB);
    for (let n = 0; n <= NAMES_MAX; n += 1) people.named(peerOf(n), `name ${n}`);
    assert.equal(people.nameOf(BOB), 'Bob', 'a contact is not forgotten');
    assert.equal(people.nameOf(peerOf(0)), nickname(peerOf(0)), 'the first of too many is');
    assert.equal(people.nameOf(peerOf(NAMES_MAX)), `name ${NAMES_MAX}`);
  });

  test('are bounded', () => {
    const people = new People();
    for (let n = 0; n < 2000; n += 1) {
      people.enter('lobby', peerOf(n));
      assert.equal(people.addContact(peerOf(n)), n < CONTACTS_MAX);
    }
    assert.equal(people.listIn('lobby').length, ROOM_PEOPLE_MAX);
    assert.equal(people.contacts.length, CONTACTS_MAX);
    assert.equal(people.addContact(peerOf(0)), true, 'one that is there already');
  });
});

describe('what the page remembers', () => {
  const text = (n, more) => ({ key: `${ALICE}/${n}`, from: ALICE, mine: false, name: 'Ann', at: n, text: `message ${n}`, ...more });
  const state = (conversations) => ({ name: 'Ann', rooms: ['lobby'], contacts: [[BOB, 'Bob']], conversations });

  test('comes back, bounded', () => {
    const messages = Array.from({ length: MESSAGES_MAX }, (_, n) => text(n));
    const back = unpack(pack(state([{ kind: 'with', id: BOB, unread: 3, messages, key: 'x' }])));
    assert.deepEqual(back, state([{ kind: 'with', id: BOB, unread: 3, messages: messages.slice(-KEPT_MESSAGES) }]));
    const many = Array.from({ length: CONVERSATIONS_MAX }, (_, n) => ({ kind: 'with', id: peerOf(n), unread: 0, messages: [text(1)] }));
    const kept = unpack(pack(state(many))).conversations;
    assert.equal(kept.length, CONVERSATIONS_MAX);
    assert.equal(kept.filter(({ messages }) => messages.length > 0).length, KEPT_CONVERSATIONS);
    assert.equal(kept.at(-1).messages.length, 1);
    const long = Array.from({ length: KEPT_MESSAGES }, (_, n) => text(n, { text: 'x'.repeat(TEXT_MAX) }));
    const packed = pack(state(Array.from({ length: KEPT_CONVERSATIONS }, (_, n) => ({ kind: 'with', id: peerOf(n), unread: 0, messages: long }))));
    assert.ok(packed.length <= KEPT_CHARACTERS);
    assert.equal(unpack(packed).conversations.at(-1).messages.length, KEPT_MESSAGES, 'the latest stay');
  });

  test('what was under way is known to be open', () => {
    const mine = { mine: true, state: 'sending' };
    const file = { cid: CID, name: 'cat.png', size: 1, mimeType: 'image/png' };
    const messages = [text(1, mine), text(2, { mine: true, state: 'delivered' }), text(3, { ...mine, state: 'storing', abort: {} }), text(4, { file, text: undefined })];
    const [{ messages: back }] = unpack(pack(state([{ kind: 'with', id: BOB, unread: 0, messages }]))).conversations;
    assert.deepEqual(back.map(({ at, state }) => [at, state]), [[1, 'failed'], [2, 'delivered'], [4, undefined]]);
    assert.match(back[0].problem, /closed before/);
    assert.deepEqual(back[2].file, file);
  });

  test('garbage is left out, and nothing else', () => {
    const nothing = { name: '', rooms: [], contacts: [], conversations: [] };
    const garbage = [null, '', '{', '[]', '7', 'null', '{"name":7,"rooms":{},"contacts":"x","conversations":[null,7,{}]}'];
    for (const record of garbage) assert.deepEqual(unpack(record), nothing, record);
    const mixed = {
      name: '\u202e',
      rooms: ['lobby', 7, ' ', ...Array(100).fill('x')],
      contacts: [[BOB, {}], ['nobody', 'x'], BOB],
      conversations: [
        { kind: 'room', id: 'NOT/as-it-is-written ' },
        { kind: 'with', id: BOB, unread: 1e9, messages: [text(1), { ...text(2), from: 'x' }, { ...text(3), text: {} }, null, { ...text(4), at: 'x' }] },
      ],
    };
    const back = unpack(JSON.stringify(mixed));
    assert.equal(back.name, '');
    assert.ok(back.rooms.length < ROOMS_MAX && back.rooms[0] === 'lobby');
    assert.deepEqual(back.contacts, [[BOB, '']]);
    assert.deepEqual(back.conversations, [{ kind: 'with', id: BOB, unread: 1, messages: [text(1)] }]);
  });
});

describe('links', () => {
  test('say what the page shows', () => {
    assert.deepEqual(route(''), { view: 'talk', list: false });
    assert.deepEqual(route('#talk'), { view: 'talk', list: true });
    assert.deepEqual(route('#room=My%20Room'), { view: 'talk', room: 'my-room' });
    assert.deepEqual(route(hashOf({ with: BOB })), { view: 'talk', person: BOB });
    assert.deepEqual(route('#with=nobody'), { view: 'talk', list: false });
    assert.deepEqual(route('#files'), { view: 'files', cid: undefined, from: undefined, peer: undefined });
    assert.deepEqual(route(`#get=${CID}&from=${BOB}`), { view: 'files', cid: CID, from: BOB, peer: undefined });
    assert.deepEqual(route(`#peer=${BOB}`), { view: 'files', cid: undefined, from: undefined, peer: BOB });
  });

  test('lead to the same relays, and tell nothing else', () => {
    const here = `https://a.example/x/?relay=https%3A%2F%2Fr.example&peer=${ALICE}#files`;
    const relays = 'https://a.example/x/?relay=https%3A%2F%2Fr.example';
    assert.equal(linkOf(here, {}, BOB), `${relays}&peer=${BOB}`);
    assert.equal(linkOf(here, { room: 'lobby' }), `${relays}#room=lobby`);
    assert.equal(linkOf(here, { get: CID, from: undefined }), `${relays}#get=${CID}`);
  });

  test('to a person are taken once', () => {
    assert.equal(invitation('https://a.example/#files'), undefined);
    assert.deepEqual(invitation(`https://a.example/?peer=${BOB}&x=1`), { href: `https://a.example/?x=1#with=${BOB}`, valid: true });
    assert.deepEqual(invitation('https://a.example/?peer=<b>'), { href: 'https://a.example/', valid: false });
  });
});

test('a file gets a name that is free', () => {
  const entries = { 'shared/a.txt': {}, 'shared/a (2).txt': {}, 'shared/.hidden': {} };
  assert.equal(freePath(entries, 'shared', 'b.txt'), 'shared/b.txt');
  assert.equal(freePath(entries, 'shared', 'a.txt'), 'shared/a (3).txt');
  assert.equal(freePath(entries, 'shared', '.hidden'), 'shared/.hidden (2)');
  assert.equal(freePath({}, 'shared', 'toString'), 'shared/toString');
});
