// The real peers among themselves: what fails here is not ours. Each way round over each transport that both have.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { launch } from '../e2e/browser.mjs';
import { sha256 } from '../e2e/fixtures.mjs';
import { Content, KIB, MIB, fetchesTheSame } from './content.mjs';
import { HeliaSite } from './helia-page.mjs';
import { RealPeer } from './real-peer.mjs';

const MINUTE = 60_000;

describe('Kubo and Helia', { timeout: 4 * MINUTE }, () => {
  let content;
  let kubo;
  let helia;
  before(async () => {
    content = await Content.make();
    [kubo, helia] = await RealPeer.startAll('kubo', 'helia');
  });
  after(() => Promise.all([kubo?.stop(), helia?.stop(), content?.remove()]));

  test('Kubo has an address of each transport', () => {
    assert.match(kubo.peerId, /^12D3Koo/);
    for (const transport of ['tcp', 'ws', 'quic', 'webtransport']) assert.ok(kubo.address(transport).includes(`/p2p/${kubo.peerId}`));
  });

  test('both import to the same CID', async () => {
    for (const size of [1, MIB, 3 * MIB + 17]) {
      const file = await content.file(size);
      for (const profile of ['unixfs-v0-2015', 'unixfs-v1-2025', 'kubo-v1-raw']) {
        const [one, other] = [await kubo.add(file, { profile }), await helia.add(file, { profile })];
        assert.equal(one, other, `${size} bytes as ${profile}`);
      }
    }
  });

  test('Helia dials over WebSocket; both fetch', async () => {
    await helia.dial(kubo.address('ws'));
    assert.deepEqual(await helia.peers(), [kubo.peerId]);
    for (const [from, to] of [[kubo, helia], [helia, kubo]]) {
      for (const [size, profile] of [[3, 'unixfs-v1-2025'], [5 * MIB, 'unixfs-v0-2015'], [300 * KIB, 'kubo-v1-raw']]) {
        const file = await content.file(size + (from === kubo ? 1 : 0), 77);
        await fetchesTheSame(to, content, await from.add(file, { profile }), file);
      }
    }
  });

  test('a sharded directory', async () => {
    const folder = await content.shardedFolder();
    const profile = 'unixfs-v0-2015';
    const cid = await kubo.add(folder, { profile });
    await fetchesTheSame(helia, content, cid, folder);
    assert.equal(await helia.add(folder, { profile }), cid, 'the same folder is another one to Helia');
  });
});

describe('Kubo and Helia in Chromium', { timeout: 4 * MINUTE }, () => {
  let content;
  let kubo;
  let site;
  let browser;
  before(async () => {
    content = await Content.make();
    [kubo] = await RealPeer.startAll('kubo');
    site = await HeliaSite.open();
    browser = await launch();
  });
  after(() => Promise.all([kubo?.stop(), site?.close(), browser?.close(), content?.remove()]));

  test('over WebSocket, each way', async () => {
    const page = await site.peer(browser);
    await page.dial(kubo.address('ws'));
    assert.deepEqual(await page.peers(), [kubo.peerId]);
    const file = await content.file(3 * MIB + 1);
    const found = await page.fetch(await kubo.add(file, { profile: 'unixfs-v1-2025' }));
    assert.deepEqual(found, { size: 3 * MIB + 1, sha256: await sha256(file) });

    const text = 'from a page';
    const to = content.fresh('text');
    await kubo.fetch(await page.addText(text, { profile: 'unixfs-v1-2025' }), to);
    assert.equal(await readFile(to, 'utf8'), text);
  });

  // No more than that: what Helia's page wants over WebTransport comes in one of two tries only.
  test('Kubo is reached over WebTransport', async () => {
    const page = await site.peer(browser);
    await page.dial(kubo.address('webtransport'));
    assert.deepEqual(await page.peers(), [kubo.peerId]);
  });
});
