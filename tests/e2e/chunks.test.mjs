// Chunk downloads: one file from several pages, its events, and what a reload leaves of it.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Stage, failsWith } from './harness.mjs';

const SIZE = 10_000_000;
const CHUNK = 1 << 20;
const CHUNKS = Math.ceil(SIZE / CHUNK);
const OVERHEAD = 1.2;
/** Well-formed, and nobody has it. */
const ABSENT = 'bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy';
const NAMES = ['started', 'progress', 'complete', 'failed'].map((name) => `download_chunk_${name}`);

describe('chunk downloads', { timeout: 240_000 }, () => {
  let stage;
  let relays;
  let seeders;
  let content;
  let cid;
  before(async () => {
    stage = await Stage.open();
    relays = [stage.relay.address('ws')];
    content = await stage.noise('seeded.bin', SIZE, 51);
    seeders = await Promise.all([1, 2, 3].map(() => stage.peer({ relays })));
    for (const seeder of seeders) cid = (await seeder.storeFiles({ 'seeded.bin': content.file }))['seeded.bin'].fileCid;
  });
  after(() => stage?.close());

  const ids = () => seeders.map(({ peerID }) => peerID);

  /** A visitor that writes down all events in `events`. */
  const listener = (work) =>
    stage.visitor({ relays }, async (peer) => {
      await listen(peer);
      await work(peer);
    });
  const listen = (peer) =>
    peer.attempt((peer, names) => {
      globalThis.events = [];
      for (const name of names) {
        peer.addEventListener(name, ({ type, detail, target }) => events.push({ type, ...detail, own: target === peer }));
      }
    }, NAMES);
  const events = (peer, name) => peer.attempt((_, name) => events.filter(({ type }) => type === `download_chunk_${name}`), name);

  test('a file from three pages: its events, and its place in the tree', () =>
    listener(async (peer) => {
      const stored = await peer.attempt(
        async (peer, { cid, peers }) => {
          const download = peer.downloadFile(cid, { peers, fileHash: 'hash-of-the-file', path: 'from/three.bin' });
          return { cid: download.cid, ...(await download.finished), root: peer.rootCID };
        },
        { cid, peers: ids() },
      );
      assert.deepEqual([stored.cid, stored.fileCid], [cid, cid]);
      assert.equal(stored.rootCid, stored.root);
      const { entries } = await peer.list();
      assert.equal(entries['from/three.bin'].cid, cid);
      await peer.receives(cid, content, undefined, { sources: ['local'] });

      const started = await events(peer, 'started');
      assert.deepEqual(Object.keys(started[0]).sort(), ['chunk_index', 'cid', 'file_hash', 'own', 'peer', 'type']);
      assert.ok(started.every((event) => event.own && event.file_hash === 'hash-of-the-file'));
      assert.deepEqual([...new Set(started.map(({ peer }) => peer))].sort(), ids().sort(), 'every seeder was asked');
      const complete = await events(peer, 'complete');
      assert.deepEqual(Object.keys(complete[0]).sort(), ['chunk_index', 'file_hash', 'own', 'path', 'type']);
      assert.deepEqual(complete.map(({ chunk_index }) => chunk_index).sort((a, b) => a - b), [...Array(CHUNKS).keys()]);
      assert.ok(complete.every((event) => event.path === 'from/three.bin'));
      const progress = await events(peer, 'progress');
      assert.ok(progress.every((event) => event.bytes_received <= event.total_bytes && event.total_bytes <= CHUNK));
      assert.deepEqual(await events(peer, 'failed'), []);
      await peer.works();
    }));

  test('paused it asks for nothing more, resumed it ends, cancelled it says so', () =>
    listener(async (peer) => {
      const paused = await peer.attempt(
        async (peer, { cid, peers }) => {
          globalThis.download = peer.downloadFile(cid, { peers });
          download.pause();
          // Another transfer from the same page goes by meanwhile.
          await peer.listFiles(peers[0]);
          const before = events.length;
          const other = peer.downloadFile(cid, { peers });
          other.cancel();
          const cancelled = await failureOf(other.finished);
          const abort = new AbortController();
          const aborted = failureOf(peer.downloadFile(cid, { peers, signal: abort.signal }).finished);
          abort.abort(new Error('my reason'));
          return { before, cancelled: cancelled.code, aborted: (await aborted).message };
        },
        { cid, peers: ids() },
      );
      assert.deepEqual(paused, { before: 0, cancelled: 'CANCELLED', aborted: 'my reason' });
      assert.equal(await peer.has(cid), false);
      await peer.attempt(async () => {
        download.resume();
        await download.finished;
      });
      assert.equal(await peer.has(cid), true);
    }));

  test('finished chunks are not fetched again after a reload', () =>
    listener(async (peer) => {
      await peer.attempt(
        async (peer, { cid, peers }) => {
          globalThis.download = peer.downloadFile(cid, { peers });
          await new Promise((resolve) => {
            peer.addEventListener('download_chunk_complete', () => {
              if (events.filter(({ type }) => type.endsWith('complete')).length >= 5) resolve();
            });
          });
          download.cancel();
          return failureOf(download.finished);
        },
        { cid, peers: ids() },
      );
      await peer.until((peer, least) => peer.storage().then(({ used }) => used > least), 5 * CHUNK);
      await peer.page.reload();
      await peer.connect({ relays });
      await listen(peer);
      const bytes = await peer.received(() =>
        peer.attempt((peer, { cid, peers }) => peer.downloadFile(cid, { peers }).finished, { cid, peers: ids() }),
      );
      const started = await events(peer, 'started');
      assert.ok(new Set(started.map(({ chunk_index }) => chunk_index)).size <= CHUNKS - 5, `${started.length} chunks were asked for`);
      assert.ok(bytes < (SIZE - 5 * CHUNK) * OVERHEAD, `${bytes} bytes came again`);
      await peer.receives(cid, content, undefined, { sources: ['local'] });
    }));

  test('one chunk from one peer, else from its URL', () =>
    listener(async (peer) => {
      const { cid: leaf } = await stage.relayed('only-relay.bin', 500_000, 61);
      const [seeder] = ids();
      const small = await stage.noise('leaf.bin', 400_000, 62);
      const { fileCid } = (await seeders[0].storeFiles({ leaf: small.file })).leaf;
      const start = (...args) => peer.attempt((peer, args) => peer.startChunkDownload(...args), args);
      await start(seeder, fileCid, 'hash', 4, { path: 'a/b' });
      assert.equal(await peer.has(fileCid), true);
      const [{ own, ...complete }] = await events(peer, 'complete');
      assert.deepEqual(complete, { type: 'download_chunk_complete', file_hash: 'hash', chunk_index: 4, path: 'a/b' });
      assert.ok(own);

      await start(seeder, leaf, 'hash', 5, { httpUrl: stage.relay.http });
      assert.equal(await peer.has(leaf), true);

      await assert.rejects(start(seeder, ABSENT, 'hash', 6), failsWith('NOT_FOUND'));
      const [failed] = await events(peer, 'failed');
      assert.deepEqual([failed.file_hash, failed.chunk_index, typeof failed.error], ['hash', 6, 'string']);
    }));

  test('a file that nobody has, and bad arguments', () =>
    listener(async (peer) => {
      const download = (cid, options) => peer.attempt((peer, { cid, options }) => peer.downloadFile(cid, options).finished, { cid, options });
      const peers = ids();
      await assert.rejects(download(ABSENT, { peers: peers.slice(0, 1) }), failsWith('NOT_FOUND'));
      await assert.rejects(download('nonsense', { peers }), failsWith('INVALID_CID'));
      await assert.rejects(download(cid, { peers: ['nonsense'] }), failsWith('INVALID_PEER_ID'));
      for (const options of [undefined, {}, { peers: [] }, { peers: 'x' }, { peers: [{}] }, { peers: Array(65).fill(peers[0]) }, { peers, path: 7 }]) {
        await assert.rejects(download(cid, options), failsWith('BAD_ARGUMENT'), JSON.stringify(options));
      }
      await assert.rejects(download(cid, { peers, path: 'a//..' }), failsWith('INVALID_PATH'));
      for (const index of [-1, 0.5, 'one', 2 ** 32]) {
        await assert.rejects(peer.attempt((peer, args) => peer.startChunkDownload(...args), [peers[0], cid, 'h', index]), failsWith('BAD_ARGUMENT'));
      }
      await peer.works();
    }));
});
