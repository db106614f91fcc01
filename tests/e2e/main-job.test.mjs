// The main job: one peer stores, another lists and gets through a relay, a third gets from the second.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { noiseFile, realBinary, realFolder, sha256 } from './fixtures.mjs';
import { Stage } from './harness.mjs';

const MINUTE = 60_000;

for (const transport of ['ws', 'webtransport']) {
  describe(`through the relay's circuit over ${transport}`, { timeout: 5 * MINUTE }, () => {
    let stage;
    let a;
    let b;
    let binary;
    let folder;
    let stored;
    before(async () => {
      stage = await Stage.open();
      const relays = [stage.relay.address(transport)];
      [a, b] = await Promise.all([stage.peer({ relays }), stage.peer({ relays })]);
      binary = await realBinary(stage.folder);
      folder = await realFolder();
    });
    after(() => stage?.close());

    test('two peers with identities of their own', () => {
      assert.notEqual(a.peerID, b.peerID);
      assert.match(a.peerID, /^12D3Koo/);
    });

    test('A stores a real binary and a folder of files', async () => {
      stored = await a.storeFiles({ 'programs/program.bin': binary, ...folder });
      const { rootCID, entries } = await a.list();
      const last = Object.values(stored).at(-1);
      assert.equal(rootCID, last.rootCid);
      for (const [path, { fileCid }] of Object.entries(stored)) {
        assert.deepEqual([entries[path]?.type, entries[path]?.cid], ['file', fileCid], path);
      }
      assert.equal(entries['site/src/views']?.type, 'directory');
      assert.equal(entries['site/public/icon.svg']?.mimeType, 'image/svg+xml');
    });

    test('B lists the tree of A', async () => {
      assert.deepEqual(await b.list(a.peerID), await a.list());
    });

    test('B gets the binary by its CID with A as fallback, bytes equal', async () => {
      const found = await b.get(stored['programs/program.bin'].fileCid, a.peerID);
      assert.equal(found.size, 5_000_000);
      assert.equal(found.sha256, await sha256(binary));
      assert.equal(found.progress.bytes, 5_000_000);
    });

    test('B gets every file of the folder', async () => {
      for (const [path, from] of Object.entries(folder)) {
        const found = await b.get(stored[path].fileCid, a.peerID);
        assert.equal(found.sha256, await sha256(from), path);
      }
    });

    test('B gets a directory as its entries', async () => {
      const { entries } = await a.list();
      const found = await b.get(entries['site/public'].cid, a.peerID);
      assert.equal(found.type, 'directory');
      assert.deepEqual(found.entries, { 'icon.svg': entries['site/public/icon.svg'].cid });
    });

    test('only this transport was used', () => {
      for (const { transports } of [a, b]) {
        assert.ok(transports.length > 0, 'the browser saw no connection');
        assert.deepEqual([...new Set(transports.map((opened) => opened.transport))], [transport]);
      }
    });

    test('A is closed; a third peer gets the same file from B', async () => {
      await a.leave();
      const c = await stage.peer({ relays: [stage.relay.address(transport)] });
      const found = await c.get(stored['programs/program.bin'].fileCid, b.peerID);
      assert.equal(found.sha256, await sha256(binary));
      await b.works();
      await c.works();
    });
  });
}

describe('one peer', { timeout: 5 * MINUTE }, () => {
  let stage;
  before(async () => {
    stage = await Stage.open();
  });
  after(() => stage?.close());

  test('a page served by a relay needs no configuration', async () => {
    const peer = await stage.peer();
    await peer.until((peer) => peer.connected);
    await peer.works();
  });

  test('one relay of several is enough', async () => {
    const nobody = '/ip4/127.0.0.1/tcp/9/ws/p2p/12D3KooWQQK7pGPaTxZn2gtfxoVTyfJ8T4YQmgzTT5jKYpBdV7op';
    const peer = await stage.peer({ relays: [nobody, stage.relay.address('ws')] });
    await peer.until((peer) => peer.connected);
  });

  test('reloading offline keeps identity, tree and files', async () => {
    const context = await stage.browser.newContext();
    const peer = await stage.peer({}, context);
    const file = await noiseFile(stage.folder, 'kept.bin', 3_000_000, 7);
    const { 'kept/noise.bin': stored } = await peer.storeFiles({ 'kept/noise.bin': file });
    const before = { id: peer.peerID, list: await peer.list() };

    await stage.serveFromDisk(context);
    await context.setOffline(true);
    await peer.page.reload();
    await peer.connect({ relays: [] });

    assert.equal(peer.peerID, before.id);
    assert.deepEqual(await peer.list(), before.list);
    assert.equal((await peer.get(stored.fileCid)).sha256, await sha256(file));
    assert.equal(await peer.attempt((peer) => peer.connected), false);
    await peer.works();
  });

  test('removing frees what nothing else refers to', async () => {
    const peer = await stage.peer({ relays: [] });
    const file = await noiseFile(stage.folder, 'big.bin', 8_000_000, 11);
    const empty = await peer.storedBytes();
    const stored = await peer.storeFiles({ 'one/big.bin': file, 'two/same.bin': file });
    const full = await peer.storedBytes();
    assert.ok(full - empty >= 8_000_000, `${full - empty} bytes for a file of 8 MB`);
    assert.ok(full - empty < 9_000_000, 'the same content is stored once');

    await peer.attempt((peer) => peer.removeFile('one'));
    assert.equal((await peer.get(stored['two/same.bin'].fileCid)).sha256, await sha256(file));
    await peer.attempt((peer) => peer.removeFile('two/same.bin'));
    // Blocks may be freed after the removal is durable.
    const deadline = Date.now() + 20_000;
    let left = Infinity;
    while (left > empty + 100_000 && Date.now() < deadline) left = await peer.storedBytes();
    assert.ok(left <= empty + 100_000, `${left - empty} bytes are left`);
    await peer.works();
  });

  test('every kind of content can be stored', async () => {
    const peer = await stage.peer({ relays: [] });
    const result = await peer.attempt(async (peer) => {
      const bytes = new TextEncoder().encode('the same bytes');
      const contents = {
        string: 'the same bytes',
        Uint8Array: bytes,
        ArrayBuffer: bytes.buffer.slice(0),
        Blob: new Blob([bytes]),
        File: new File([bytes], 'x'),
        ReadableStream: new Blob([bytes]).stream(),
      };
      const cids = {};
      for (const [kind, content] of Object.entries(contents)) cids[kind] = (await peer.storeFile(`kinds/${kind}`, content)).fileCid;
      const found = await peer.getFile(cids.Blob);
      const streamed = await new Response(found.stream()).text();
      return { cids, text: await found.text(), base64: found.content, blob: await found.blob().text(), streamed };
    });
    assert.equal(new Set(Object.values(result.cids)).size, 1);
    assert.deepEqual([result.text, result.blob, result.streamed], ['the same bytes', 'the same bytes', 'the same bytes']);
    assert.equal(Buffer.from(result.base64, 'base64').toString(), 'the same bytes');
  });

  test('an aborted store rejects with the reason and leaves the tree as it was', async () => {
    const peer = await stage.peer({ relays: [] });
    const outcome = await peer.attempt(async (peer) => {
      const before = peer.rootCID;
      const abort = new AbortController();
      const content = new Blob([new Uint8Array(30_000_000)]);
      const onProgress = () => abort.abort(new Error('changed my mind'));
      const message = await peer.storeFile('big', content, { signal: abort.signal, onProgress }).then(
        () => 'stored',
        (error) => error.message,
      );
      return { message, same: peer.rootCID === before };
    });
    assert.deepEqual(outcome, { message: 'changed my mind', same: true });
    await peer.works();
  });
});
