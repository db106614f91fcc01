// A peer in Chromium with Kubo and with Helia in Node.js: it dials them, gets what they have, and they get what it
// stored over the connection that it made. Not through a circuit: libp2p-relay always names a limit, if only of time,
// and neither Kubo nor Helia runs Bitswap over a connection that has one.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sha256 } from '../e2e/fixtures.mjs';
import { Stage } from '../e2e/harness.mjs';
import { Content, LARGE, MIB, cases, fetchesTheSame } from './content.mjs';
import { RealPeer } from './real-peer.mjs';

const MINUTE = 60_000;

let stage;
let content;
before(async () => {
  content = await Content.make();
  stage = await Stage.open();
});
after(() => Promise.all([stage?.close(), content?.remove()]));

/** A page that has dialled these addresses and knows nobody else. */
async function pageWith(...addresses) {
  const page = await stage.peer({ relays: [] });
  for (const address of addresses) await page.attempt((peer, address) => peer.dial(address), address);
  return page;
}

async function pageGets(page, cid, file) {
  const found = await page.get(cid);
  assert.equal(found.sha256, await sha256(file), `${cid} fetched by the page`);
}

for (const [kind, transport] of [['kubo', 'ws'], ['kubo', 'webtransport'], ['helia', 'ws']]) {
  describe(`a page and ${kind} over ${transport}`, { timeout: 8 * MINUTE }, () => {
    let real;
    let page;
    before(async () => {
      [real] = await RealPeer.startAll(kind);
      page = await pageWith(real.address(transport));
    });
    after(async () => {
      await page?.leave();
      await real?.stop();
    });

    test('they are connected, over this transport', async () => {
      assert.deepEqual(await real.peers(), [page.peerID]);
      assert.deepEqual([...new Set(page.transports.map((opened) => opened.transport))], [transport]);
    });

    for (const { name, size, profile, seed } of cases(5)) {
      test(`the page gets ${name}`, async () => {
        const file = await content.file(size, seed);
        await pageGets(page, await real.add(file, { profile }), file);
      });
    }

    for (const { name, size, profile } of cases(6)) {
      test(`the page gives ${name}`, async () => {
        const file = await content.file(size, 6);
        const { [name]: stored } = await page.storeFiles({ [name]: file }, { profile });
        await fetchesTheSame(real, content, stored.fileCid, file);
      });
    }

    test('the page gets a sharded directory', async () => {
      const folder = await content.shardedFolder(`${kind}-${transport}`);
      const cid = await real.add(folder, { profile: 'unixfs-v0-2015' });
      const { type, entries } = await page.get(cid);
      assert.deepEqual([type, Object.keys(entries).length], ['directory', 2000]);
      const [name, one] = Object.entries(entries).at(-1);
      await pageGets(page, one, `${folder}/${name}`);
    });

    test('the page gets 100 MiB', async () => {
      const file = await content.file(LARGE, 7);
      await pageGets(page, await real.add(file, { profile: 'unixfs-v1-2025' }), file);
    });

    test('the page gives 100 MiB', async () => {
      const file = await content.file(LARGE, 8);
      const { large } = await page.storeFiles({ large: file });
      await fetchesTheSame(real, content, large.fileCid, file);
    });

    test('the page is well', () => page.works());
  });
}

describe('a page and three peers', { timeout: 4 * MINUTE }, () => {
  test('a file whose blocks are spread over Kubo, Helia and another Kubo', async () => {
    const peers = await RealPeer.startAll('kubo', 'helia', 'kubo');
    try {
      const file = await content.file(24 * MIB, 9);
      const cids = [];
      for (const [index, peer] of peers.entries()) cids.push(await peer.add(file, { profile: 'unixfs-v1-2025', part: [index, peers.length] }));
      assert.equal(new Set(cids).size, 1);
      const page = await pageWith(...peers.map((peer) => peer.address('ws')));
      await pageGets(page, cids[0], file);
      await page.works();
    } finally {
      await Promise.all(peers.map((peer) => peer.stop()));
    }
  });
});
