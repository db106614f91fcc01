// Fetching while it arrives: Bitswap between pages and from the relay, streams, ranges, what is kept of
// a transfer that was given up, directories.

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { noise } from './fixtures.mjs';
import { PROFILE, Stage, failsWith } from './harness.mjs';

/** Between the pages, every byte travels twice. */
const SHARED = 20_000_000;
const SIZE = 12_000_000;
/** More than is fetched ahead of a reader. */
const LONG = 30_000_000;
/** What the protocols may add. The web app's own protocol sends base64: a third more. */
const OVERHEAD = 1.15;
/** What is fetched ahead of a reader, with what is taken in before it starts. */
const AHEAD = 20_000_000;

describe('fetching while it arrives', { timeout: 240_000 }, () => {
  let stage;
  let relays;
  let content;
  let cid;
  before(async () => {
    stage = await Stage.open();
    relays = [stage.relay.address('ws')];
    content = await stage.relayed('noise.bin', SIZE, 3);
    cid = content.cid;
  });
  after(() => stage?.close());

  test('between two pages through the circuit: Bitswap, no byte twice', async () => {
    await stage.visitor({ relays }, async (a) => {
      const own = await stage.noise('own.bin', SHARED, 5);
      const { 'own.bin': stored } = await a.storeFiles({ 'own.bin': own.file });
      await stage.visitor({ relays }, async (b) => {
        const bytes = await b.received(async () => {
          const found = await b.receives(stored.fileCid, own, a.peerID);
          assert.deepEqual(found.progress, { bytes: SHARED, total: SHARED });
        });
        assert.ok(bytes >= SHARED && bytes < SHARED * OVERHEAD, `${bytes} bytes came for ${SHARED}`);
        assert.equal(await b.has(stored.fileCid), true);
      });
    });
  });

  test('a stream gives the first bytes while the others are on their way', () =>
    stage.visitor({ relays }, async (peer) => {
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
        sha256: content.sha256,
        has: true,
      });
    }));

  test('ranges are what they are of the file, and bring no more than is needed', () =>
    stage.visitor({ relays }, async (peer) => {
      const ranges = [{ start: 0, end: 1 }, { start: 1_048_570, end: 1_048_590 }, { start: SIZE - 10 }, { start: 5_000_000, end: 5_000_000 }];
      const whole = noise(SIZE, 3);
      const bytes = await peer.received(async () => {
        const parts = await peer.attempt(
          async (peer, { cid, ranges }) => {
            const file = await peer.getFile(cid, undefined, { stream: true });
            const parts = [];
            for (const range of ranges) parts.push(Array.from(await file.bytes(range)));
            return parts;
          },
          { cid, ranges },
        );
        assert.deepEqual(parts, ranges.map(({ start, end }) => [...whole.subarray(start, end)]));
      });
      assert.ok(bytes < 8_000_000, `${bytes} bytes came for four small ranges`);
      assert.equal(await peer.has(cid), false);
    }));

  test('a reader may bring its own array, whatever its size, and end in the middle', () =>
    stage.visitor({ relays }, async (peer) => {
      const seen = await peer.attempt(async (peer, cid) => {
        const file = await peer.getFile(cid, undefined, { stream: true });
        const own = async (stream, lengths) => {
          const reader = stream.getReader({ mode: 'byob' });
          const pieces = [];
          for (let at = 0; ; at += 1) {
            const { value, done } = await reader.read(new Uint8Array(lengths[at % lengths.length]));
            if (done) break;
            pieces.push(value);
          }
          return sha256(await new Blob(pieces).arrayBuffer());
        };
        const [one, two] = file.stream().tee();
        const all = await Promise.all([
          own(file.stream(), [1 << 20]),
          own(file.stream(), [3_000_000, 70_000, 999]),
          own(one, [500_000]),
          sha256(await new Response(two).arrayBuffer()),
        ]);
        // One that changes its mind.
        const stream = file.stream();
        const first = stream.getReader({ mode: 'byob' });
        const { value } = await first.read(new Uint8Array(10));
        first.releaseLock();
        const second = stream.getReader();
        const pieces = [value];
        for (let next = await second.read(); !next.done; next = await second.read()) pieces.push(next.value);
        all.push(await sha256(await new Blob(pieces).arrayBuffer()));
        const empty = file.stream({ start: 5, end: 5 }).getReader({ mode: 'byob' });
        const nothing = await empty.read(new Uint8Array(10));
        const left = file.stream().getReader({ mode: 'byob' });
        const pending = left.read(new Uint8Array(10));
        await left.cancel();
        return { all: [...new Set(all)], nothing: nothing.done, pending: (await pending).done };
      }, cid);
      assert.deepEqual(seen, { all: [content.sha256], nothing: true, pending: true });
      await peer.works();
    }));

  test('what is not read is not fetched, and cancelling ends the transfer', () =>
    stage.visitor({ relays }, async (peer) => {
      const { cid: long } = await stage.relayed('long.bin', LONG, 7);
      const bytes = await peer.received(async () => {
        await peer.attempt(async (peer, cid) => {
          const file = await peer.getFile(cid, undefined, { stream: true });
          globalThis.reader = file.stream().getReader();
          await reader.read();
        }, long);
        // Another transfer goes by meanwhile: time enough for one that nothing holds back.
        const other = await stage.relayed('other.bin', 4_000_000, 9);
        await peer.receives(other.cid, other);
        await peer.attempt(() => reader.cancel());
        assert.equal(await peer.has(long), false);
        await peer.works();
      });
      assert.ok(bytes < AHEAD + 4_000_000 * OVERHEAD, `${bytes} of ${LONG} bytes came for one piece, and a file of 4 MB`);
    }));

  test('a signal ends a stream and a call, each with its reason', () =>
    stage.visitor({ relays }, async (peer) => {
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

  test('listing a peer that falls silent ends with the time given, or with the reason of the signal', () =>
    stage.visitor({ relays }, (a) =>
      stage.visitor({ relays }, async (b) => {
        const list = (options) => b.attempt((peer, [id, options]) => peer.listFiles(id, options), [a.peerID, options]);
        assert.deepEqual(await list({ timeout: 30_000 }), await a.list());
        for (const options of [{ timeout: 0 }, { timeout: 'soon' }, { signal: {} }]) {
          await assert.rejects(list(options), failsWith('BAD_ARGUMENT'), JSON.stringify(options));
        }
        const goOn = await a.freeze();
        await assert.rejects(list({ timeout: 500 }), failsWith('TIMEOUT'));
        const reason = await b.attempt(async (peer, id) => {
          const abort = new AbortController();
          const listed = failureOf(peer.listFiles(id, { signal: abort.signal }));
          abort.abort(new Error('enough'));
          return (await listed).message;
        }, a.peerID);
        assert.equal(reason, 'enough');
        await goOn();
        assert.deepEqual(await list(), await a.list());
        await b.works();
      }),
    ));

  for (const [how, leave] of [
    ['a reload of the page', (peer) => peer.page.reload()],
    ['close()', (peer) => peer.attempt((peer) => peer.close())],
  ]) {
    test(`given up at half, after ${how} only the rest travels`, () =>
      stage.visitor({ relays }, async (peer) => {
        const first = await peer.received(async () => {
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
        const local = await peer.attempt(async (peer, cid) => {
          const file = await peer.getFile(cid, undefined, { stream: true, sources: ['local'] });
          return [file.size, (await failureOf(file.bytes())).code];
        }, cid);
        assert.deepEqual(local, [SIZE, 'NOT_FOUND']);
        await leave(peer);
        await peer.connect({ relays });
        const second = await peer.received(() => peer.receives(cid, content));
        assert.ok(second < SIZE * 0.65, `${second} of ${SIZE} bytes came again`);
        const third = await peer.received(() => peer.receives(cid, content));
        assert.ok(third < 100_000, `${third} bytes came for what was stored`);
      }));
  }

  test('a directory of 300 files is fetched, and its listing stays', async () => {
    const folder = path.join(stage.folder, 'many');
    await mkdir(folder, { recursive: true });
    const names = Array.from({ length: 300 }, (_, at) => `file-${String(at).padStart(3, '0')}.txt`);
    await Promise.all(names.map((name, at) => writeFile(path.join(folder, name), noise(200 + at, at + 1))));
    const directory = await stage.relay.add(folder, { profile: PROFILE });
    await stage.visitor({ relays }, async (peer) => {
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
      assert.equal(await peer.has(directory), true);
      await assert.rejects(peer.get(cid), failsWith('NOT_FOUND'));
    });
  });
});
