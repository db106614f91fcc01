// The native peer, tabpeer-relay, as provider: `tabpeer-relay add`, and Kubo and Helia fetch over each transport that
// they have. A 1-byte file is the same for all of them, so each test starts peers of its own.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch } from '../e2e/browser.mjs';
import { sha256 } from '../e2e/fixtures.mjs';
import { Relay } from '../e2e/relay.mjs';
import { Content, LARGE, MIB, cases, fetchesTheSame, folderEntries } from './content.mjs';
import { HeliaSite } from './helia-page.mjs';
import { RealPeer } from './real-peer.mjs';

const MINUTE = 60_000;

describe('tabpeer-relay provides', { timeout: 8 * MINUTE }, () => {
  let content;
  let relay;
  before(async () => {
    content = await Content.make();
    relay = await Relay.start({ site: content.folder });
  });
  after(() => Promise.all([relay?.stop(), content?.remove()]));

  /** Runs `body` with a real peer that has dialled the relay. */
  async function connected(kind, transport, body) {
    const [peer] = await RealPeer.startAll(kind);
    try {
      await peer.dial(relay.address(transport));
      await body(peer);
    } finally {
      await peer.stop();
    }
  }

  for (const [kind, transports] of [['kubo', ['tcp', 'ws', 'quic', 'webtransport']], ['helia', ['tcp', 'ws']]]) {
    for (const transport of transports) {
      test(`small files to ${kind} over ${transport}`, () =>
        connected(kind, transport, async (peer) => {
          for (const { size, profile, seed } of cases(2)) {
            const file = await content.file(size, seed);
            await fetchesTheSame(peer, content, await relay.add(file, { profile }), file);
          }
        }));
    }
  }

  for (const [kind, transport] of [['kubo', 'tcp'], ['helia', 'ws']]) {
    test(`100 MiB to ${kind} over ${transport}`, () =>
      connected(kind, transport, async (peer) => {
        const file = await content.file(LARGE);
        await fetchesTheSame(peer, content, await relay.add(file, { profile: 'unixfs-v1-2025' }), file);
      }));

    test(`a sharded directory to ${kind} over ${transport}`, () =>
      connected(kind, transport, async (peer) => {
        const folder = await content.shardedFolder(kind);
        await fetchesTheSame(peer, content, await relay.add(folder, { profile: 'unixfs-v0-2015' }), folder);
      }));
  }

  test('it imports to the same CIDs as Kubo', async () => {
    const [kubo] = await RealPeer.startAll('kubo');
    try {
      const folder = await content.shardedFolder('cid');
      const profile = 'unixfs-v0-2015';
      assert.equal(await relay.add(folder, { profile }), await kubo.add(folder, { profile }));
      for (const { size, profile } of cases(3)) {
        const file = await content.file(size, 3);
        assert.equal(await relay.add(file, { profile }), await kubo.add(file, { profile }), `${size} bytes as ${profile}`);
      }
    } finally {
      await kubo.stop();
    }
  });

  test('to Helia in Chromium over ws', async () => {
    const browser = await launch();
    const site = await HeliaSite.open();
    try {
      const page = await site.peer(browser);
      await page.dial(relay.address('ws'));
      for (const { size, profile } of [...cases(4), { size: 10 * MIB, profile: 'unixfs-v1-2025' }]) {
        const file = await content.file(size, 4);
        const found = await page.fetch(await relay.add(file, { profile }));
        assert.deepEqual(found, { size, sha256: await sha256(file) });
      }
      const folder = await content.shardedFolder('page');
      const found = await page.fetch(await relay.add(folder, { profile: 'unixfs-v0-2015' }));
      assert.deepEqual(found.entries, await folderEntries(folder));
    } finally {
      await browser.close();
      await site.close();
    }
  });

  // The blocks of a file of whole chunks are those of its pieces: each peer has a piece, Kubo also what joins them.
  test('a file spread over the relay, Kubo and Helia', async () => {
    const [kubo, helia, asking] = await RealPeer.startAll('kubo', 'helia', 'kubo');
    try {
      const profile = 'unixfs-v1-2025';
      const { whole, pieces } = await content.inPieces(3, 4 * MIB);
      await relay.add(pieces[0], { profile });
      await helia.add(pieces[1], { profile });
      await kubo.add(pieces[2], { profile });
      const cid = await kubo.add(whole, { profile, leaves: false });
      for (const address of [relay.address('tcp'), helia.address('tcp'), kubo.address('tcp')]) await asking.dial(address);
      await fetchesTheSame(asking, content, cid, whole);
    } finally {
      await Promise.all([kubo, helia, asking].map((peer) => peer.stop()));
    }
  });
});
