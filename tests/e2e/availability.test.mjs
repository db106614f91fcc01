// Announced content in Chromium: those on the topic hear of it, and one step beyond those who are connected with them.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { base58btc } from 'multiformats/bases/base58';
import { Stage, failsWith } from './harness.mjs';

const GALLERY = 'e2e/gallery';
const CID = 'bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy';

/** From now on the page keeps what it hears. */
const listen = (page) =>
  page.attempt((peer) => {
    globalThis.available = [];
    peer.addEventListener('content:available', ({ detail }) => available.push(detail));
  });

async function hears(page, expected) {
  await page.until((_, hash) => available.some((heard) => heard.hash === hash), expected.hash);
  assert.deepEqual(await page.attempt(() => available.splice(0)), [{ ...expected, missed: 0 }]);
}

const announce = (page, cid, topic = GALLERY) => page.attempt((peer, [topic, cid]) => peer.announceContent(topic, cid), [topic, cid]);

describe('announced content', { timeout: 180_000 }, () => {
  let stage;
  let pages;
  before(async () => {
    stage = await Stage.open();
    const relays = [stage.relay.address('ws')];
    pages = await Promise.all([1, 2, 3].map(() => stage.peer({ relays })));
    // The third knows the second, and nothing of the topic.
    const [, watcher, third] = pages;
    await third.attempt((peer, id) => peer.addPeers([id]), watcher.peerID);
    await Promise.all([[watcher, third], [third, watcher]].map(([one, other]) => one.until(async (peer, id) => {
      const { peers } = await peer.status();
      return peers.some(({ peerID, protocols }) => peerID === id && protocols.includes('/tabpeer/content-available/1.0.0'));
    }, other.peerID)));
    await Promise.all(pages.map(listen));
  });
  after(() => stage?.close());

  test('a page that watches the topic hears it, tells it on, and there it can be got', async () => {
    const [author, watcher, third] = pages;
    await watcher.attempt((peer, topic) => peer.watchContent(topic), GALLERY);
    const { fileCid } = await author.attempt((peer) => peer.storeFile('new.txt', 'look at this'));
    assert.equal(await announce(author, fileCid), true);
    await hears(watcher, { hash: fileCid, source: author.peerID, topic: GALLERY });
    await hears(third, { hash: fileCid, source: author.peerID, via: watcher.peerID });
    const text = await third.attempt(async (peer, [hash, source]) => (await peer.getFile(hash, source)).text(), [fileCid, author.peerID]);
    assert.equal(text, 'look at this');
    // Said again it is no news, and what is said next is.
    await announce(author, fileCid);
    await announce(author, CID);
    await hears(watcher, { hash: CID, source: author.peerID, topic: GALLERY });
    await hears(third, { hash: CID, source: author.peerID, via: watcher.peerID });
    assert.deepEqual(await author.attempt(() => available), []);
  });

  test('unsubscribe ends it, and so does a signal', async () => {
    const [author, watcher] = pages;
    await watcher.attempt((peer, topic) => peer.unsubscribe(topic), GALLERY);
    await watcher.attempt(async (peer, topic) => {
      globalThis.watching = new AbortController();
      await peer.watchContent(topic, { signal: watching.signal });
    }, 'e2e/signal');
    const members = (page, topic, count) => page.until(async (peer, { topic, count }) => (await peer.listPeers(topic)).length === count, { topic, count });
    await author.attempt((peer) => peer.subscribe('e2e/signal', () => {}));
    await members(author, 'e2e/signal', 1);
    const next = await author.attempt(async (peer) => (await peer.storeFile('next.txt', 'next')).fileCid);
    await announce(author, next, GALLERY);
    await announce(author, next, 'e2e/signal');
    await hears(watcher, { hash: next, source: author.peerID, topic: 'e2e/signal' });
    await watcher.attempt(() => watching.abort());
    await members(author, 'e2e/signal', 0);
    const aborted = await watcher.attempt((peer) => failureOf(peer.watchContent('e2e/never', { signal: AbortSignal.abort(new Error('enough')) })));
    assert.equal(aborted.message, 'enough');
  });

  test('bad input is refused with a code', async () => {
    const [author] = pages;
    const refused = {
      BAD_ARGUMENT: [
        (peer) => peer.watchContent(''),
        (peer) => peer.watchContent(7),
        (peer) => peer.watchContent('x', { signal: 'no signal' }),
        (peer, cid) => peer.announceContent('', cid),
        (peer) => peer.announceContent('x', 7),
      ],
      INVALID_CID: [(peer) => peer.announceContent('x', 'no CID'), (peer) => peer.announceContent('x', 'b'.repeat(100_000))],
    };
    for (const [code, calls] of Object.entries(refused)) {
      for (const call of calls) await assert.rejects(author.attempt(call, CID), failsWith(code), String(call));
    }
    await author.works();
  });

  test('the DID of a peer is that of its key', async () => {
    for (const page of pages) {
      const did = await page.attempt((peer) => peer.did);
      // A peer id is the multihash `identity` of the key in protobuf, did:key is multibase of the key with its multicodec.
      const key = Buffer.from(base58btc.baseDecode(page.peerID)).subarray(6);
      assert.equal(did, `did:key:${base58btc.encode(Buffer.concat([Buffer.from([0xed, 0x01]), key]))}`);
      assert.deepEqual(page.problems, []);
    }
  });
});
