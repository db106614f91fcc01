// Fetching while it arrives: Bitswap between pages and from the relay, streams, ranges, what is kept of
// a transfer that was given up, directories.

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { noise, noiseFile, sha256 } from './fixtures.mjs';
import { Stage, failsWith } from './harness.mjs';

/** Between the pages, every byte travels twice. */
const SHARED = 20_000_000;
const SIZE = 12_000_000;
/** More than is fetched ahead of a reader. */
const LONG = 30_000_000;
/** What the protocols may add. The web app's own protocol sends base64: a third more. */
const OVERHEAD = 1.15;
/** What is fetched ahead of a reader, with what is taken in before it starts. */
const AHEAD = 20_000_000;
const profile = 'unixfs-v1-2025';

describe('fetching while it arrives', { timeout: 240_000 }, () => {
  let stage;
  let relays;
  let file;
  let digest;
  let cid;
  before(async () => {
    stage = await Stage.open();
    relays = [stage.relay.address('ws')];
    file = await noiseFile(stage.folder, 'noise.bin', SIZE, 3);
    digest = await sha256(file);
    cid = await stage.relay.add(file, { profile });
  });
  after(() => stage?.close());

  /** What came over the network while `work` ran. */
  async function received(peer, work) {
    const before = peer.transports.received;
    await work();
    return peer.transports.received - before;
  }

  /** A peer that knows only what the test tells it, closed when `work` is done. */
  async function visitor(work, options = {}) {
    const peer = await stage.peer({ relays, ...options });
    try {
      await work(peer);
      assert.deepEqual(peer.problems, []);
    } finally {
      await peer.page.context().close();
    }
  }

  test('between two pages through the circuit: Bitswap, no byte twice', async () => {
    await visitor(async (a) => {
      const own = await noiseFile(stage.folder, 'own.bin', SHARED, 5);
      const { 'own.bin': stored } = await a.storeFiles({ 'own.bin': own });
      await visitor(async (b) => {
        const bytes = await received(b, async () => {
          const found = await b.get(stored.fileCid, a.peerID);
          assert.equal(found.sha256, await sha256(own));
          assert.deepEqual(found.progress, { bytes: SHARED, total: SHARED });
        });
        assert.ok(bytes >= SHARED && bytes < SHARED * OVERHEAD, `${bytes} bytes came for ${SHARED}`);
        assert.equal(await b.attempt((peer, cid) => peer.hasFile(cid), stored.fileCid), true);
      });
    });
  });

  test('a stream gives the first bytes while the others are on their way', () =>
    visitor(async (peer) => {
      const seen = await peer.attempt(async (peer, cid) => {
        const progress = [];
        const file = await peer.getFile(cid, undefined, { stream: true, onProgress: ({ bytes }) => progress.push(bytes) });
        const hadAtOnce = await peer.hasFile(cid);
        let atFirst;
        const pieces = [];
        for await (const piece of file.stream()) {
          atFirst ??= progress.at(-1) ?? 0;
          pieces.push(piece);
        }
        const bytes = await new Blob(pieces).arrayBuffer();
        const { type, mimeType, size } = file;
        return { type, mimeType, size, hadAtOnce, atFirst, last: progress.at(-1), sha256: await sha256(bytes), has: await peer.hasFile(cid) };
      }, cid);
      assert.ok(seen.atFirst < SIZE, `all ${seen.atFirst} bytes were there before the first was read`);
      const { atFirst, ...rest } = seen;
      assert.deepEqual(rest, {
        type: 'file',
        mimeType: 'application/octet-stream',
        size: SIZE,
        hadAtOnce: false,
        last: SIZE,
        sha256: digest,
        has: true,
      });
    }));

  test('ranges are what they are of the file, and bring no more than is needed', () =>
    visitor(async (peer) => {
      const ranges = [{ start: 0, end: 1 }, { start: 1_048_570, end: 1_048_590 }, { start: SIZE - 10 }, { start: 5_000_000, end: 5_000_000 }];
      const content = noise(SIZE, 3);
      const bytes = await received(peer, async () => {
        const parts = await peer.attempt(
          async (peer, { cid, ranges }) => {
            const file = await peer.getFile(cid, undefined, { stream: true });
            const parts = [];
            for (const range of ranges) parts.push(Array.from(await file.bytes(range)));
            return parts;
          },
          { cid, ranges },
        );
        assert.deepEqual(parts, ranges.map(({ start, end }) => [...content.subarray(start, end)]));
      });
      assert.ok(bytes < 8_000_000, `${bytes} bytes came for four small ranges`);
      assert.equal(await peer.attempt((peer, cid) => peer.hasFile(cid), cid), false);
    }));

  test('what is not read is not fetched, and cancelling ends the transfer', () =>
    visitor(async (peer) => {
      const long = await stage.relay.add(await noiseFile(stage.folder, 'long.bin', LONG, 7), { profile });
      const bytes = await received(peer, async () => {
        await peer.attempt(async (peer, cid) => {
          const file = await peer.getFile(cid, undefined, { stream: true });
          globalThis.reader = file.stream().getReader();
          await reader.read();
        }, long);
        // Another transfer goes by meanwhile: time enough for one that nothing holds back.
        const other = await stage.relay.add(await noiseFile(stage.folder, 'other.bin', 4_000_000, 9), { profile });
        await peer.get(other);
        await peer.attempt(() => reader.cancel());
        assert.equal(await peer.attempt((peer, cid) => peer.hasFile(cid), long), false);
        await peer.works();
      });
      assert.ok(bytes < AHEAD + 4_000_000 * OVERHEAD, `${bytes} of ${LONG} bytes came for one piece, and a file of 4 MB`);
    }));

  test('a signal ends a stream and a call, each with its reason', () =>
    visitor(async (peer) => {
      const said = await peer.attempt(async (peer, cid) => {
        const abort = new AbortController();
        const file = await peer.getFile(cid, undefined, { stream: true, signal: abort.signal });
        const reader = file.stream().getReader();
        await reader.read();
        abort.abort(new Error('enough'));
        const stream = await failureOf((async () => {
          while (!(await reader.read()).done);
        })());
        const again = await failureOf(file.bytes());
        const other = new AbortController();
        const onProgress = () => other.abort(new Error('enough of this too'));
        const call = await failureOf(peer.getFile(cid, undefined, { signal: other.signal, onProgress }));
        const early = await failureOf(peer.getFile(cid, undefined, { stream: true, signal: AbortSignal.abort(new Error('before')) }));
        return [stream, again, call, early].map(({ message }) => message);
      }, cid);
      assert.deepEqual(said, ['enough', 'enough', 'enough of this too', 'before']);
    }));

  for (const [how, leave] of [
    ['a reload of the page', (peer) => peer.page.reload()],
    ['close()', (peer) => peer.attempt((peer) => peer.close())],
  ]) {
    test(`given up at half, after ${how} only the rest travels`, () =>
      visitor(async (peer) => {
        const first = await received(peer, async () => {
          const said = await peer.attempt(async (peer, cid) => {
            const abort = new AbortController();
            const onProgress = ({ bytes, total }) => bytes > total / 2 && abort.abort(new Error('half'));
            return failureOf(peer.getFile(cid, undefined, { signal: abort.signal, onProgress }));
          }, cid);
          assert.equal(said.message, 'half');
        });
        assert.ok(first < SIZE * OVERHEAD, `${first} bytes before`);
        // What has come is being written; a reload may cut that short, but a read waits for it.
        await peer.until((peer) => peer.storage().then(({ used }) => used > 5_000_000));
        await leave(peer);
        await peer.connect({ relays });
        const second = await received(peer, async () => assert.equal((await peer.get(cid)).sha256, digest));
        assert.ok(second < SIZE * 0.65, `${second} of ${SIZE} bytes came again`);
        const third = await received(peer, async () => assert.equal((await peer.get(cid)).sha256, digest));
        assert.ok(third < 100_000, `${third} bytes came for what was stored`);
      }));
  }

  test('a directory of 300 files is fetched, and its listing stays', async () => {
    const folder = path.join(stage.folder, 'many');
    await mkdir(folder, { recursive: true });
    const names = Array.from({ length: 300 }, (_, at) => `file-${String(at).padStart(3, '0')}.txt`);
    await Promise.all(names.map((name, at) => writeFile(path.join(folder, name), noise(200 + at, at + 1))));
    const directory = await stage.relay.add(folder, { profile });
    const context = await stage.browser.newContext();
    const peer = await stage.peer({ relays }, context);
    const sizes = await peer.attempt(async (peer, cid) => {
      const found = await peer.getFile(cid);
      const files = await Promise.all(Object.entries(found.entries).map(async ([name, cid]) => [name, (await peer.getFile(cid)).size]));
      return Object.fromEntries(files);
    }, directory);
    assert.deepEqual(sizes, Object.fromEntries(names.map((name, at) => [name, 200 + at])));

    await peer.page.reload();
    await peer.connect({ relays: [] });
    const offline = await peer.get(directory);
    assert.deepEqual([offline.type, Object.keys(offline.entries).length], ['directory', 300]);
    assert.equal(await peer.attempt((peer, cid) => peer.hasFile(cid), directory), true);
    await assert.rejects(peer.get(cid), failsWith('NOT_FOUND'));
    await context.close();
  });
});
