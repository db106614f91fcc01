// Everything that can go wrong: a typed error each time, nothing lost, and a peer that still works after it.
// A peer that lies about content needs a program that speaks the protocol wrongly: the native tests have it.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { PeerPage } from './browser.mjs';
import { noiseFile, sha256 } from './fixtures.mjs';
import { Stage, failsWith } from './harness.mjs';

const MINUTE = 60_000;
const NOBODY = '12D3KooWQQK7pGPaTxZn2gtfxoVTyfJ8T4YQmgzTT5jKYpBdV7op';
/** CIDv1 of bytes that no peer of these tests stores. */
const NOWHERE = 'bafkreiemqpndzewx4bioklzfvhtiegsfny5fxuc3nkjk2vmcpjxiammsti';

let stage;
before(async () => {
  stage = await Stage.open();
});
after(() => stage?.close());

describe('wrong arguments', { timeout: 3 * MINUTE }, () => {
  let peer;
  before(async () => {
    peer = await stage.peer();
    await peer.attempt((peer) => peer.storeFile('there/file.txt', 'text'));
  });
  afterEach(() => peer.works());

  for (const cid of ['', 'not a cid', 'Qm', 'bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzd', 'zzzz'.repeat(10_000)]) {
    test(`a CID that is none: ${cid.slice(0, 20)} (${cid.length})`, () =>
      assert.rejects(peer.get(cid), failsWith('INVALID_CID')));
  }

  for (const [path, why] of [
    ['', 'empty'],
    ['a//b', 'an empty part'],
    ['../up', 'up'],
    ['a/../b', 'up in the middle'],
    ['./a', 'a dot'],
    ['a\u0000b', 'a control character'],
    ['x'.repeat(100_000), 'too long'],
  ]) {
    test(`a path that is none: ${why}`, async () => {
      await assert.rejects(
        peer.attempt((peer, path) => peer.storeFile(path, 'x'), path),
        failsWith('INVALID_PATH'),
      );
      await assert.rejects(
        peer.attempt((peer, path) => peer.createDirectory(path), path),
        failsWith('INVALID_PATH'),
      );
    });
  }

  test('a peer id that is none', async () => {
    await assert.rejects(peer.list('nobody'), failsWith('INVALID_PEER_ID'));
    await assert.rejects(peer.get(NOWHERE, 'nobody'), failsWith('INVALID_PEER_ID'));
  });

  test('a file where a directory is', () =>
    assert.rejects(peer.attempt((peer) => peer.storeFile('there', 'x')), failsWith('IS_A_DIRECTORY')));

  test('a directory where a file is', async () => {
    await assert.rejects(peer.attempt((peer) => peer.storeFile('there/file.txt/below', 'x')), failsWith('NOT_A_DIRECTORY'));
    await assert.rejects(peer.attempt((peer) => peer.createDirectory('there/file.txt')), failsWith('NOT_A_DIRECTORY'));
  });

  test('removing what is not there', () =>
    assert.rejects(peer.attempt((peer) => peer.removeFile('nothing/here')), failsWith('NOT_FOUND')));

  test('content that is none', async () => {
    for (const content of ['undefined', 'null', '42', '({})', '[1, 2]', 'Symbol.iterator', 'new Response("x")']) {
      await assert.rejects(
        peer.page.evaluate(`peer.storeFile('x', ${content}).catch((e) => { throw new Error(e.code); })`),
        /BAD_ARGUMENT/,
        content,
      );
    }
  });

  test('options that are none', () =>
    assert.rejects(
      peer.attempt((peer) => peer.storeFile('x', 'y', { profile: 'no-such-profile' })),
      failsWith('BAD_ARGUMENT'),
    ));

  test('a stream that fails', async () => {
    const message = await peer.attempt((peer) => {
      const content = new ReadableStream({
        pull(controller) {
          controller.enqueue(new Uint8Array(100_000));
          if ((this.sent = (this.sent ?? 0) + 1) === 5) controller.error(new Error('the disk is gone'));
        },
      });
      return peer.storeFile('streamed', content).then(
        () => 'stored',
        (error) => `${error.message} ${error.cause?.message ?? ''}`,
      );
    });
    assert.match(message, /the disk is gone/);
    assert.equal((await peer.list()).entries.streamed, undefined);
  });

  test('a progress callback that throws does not stop the work', () =>
    peer.attempt((peer) =>
      peer.storeFile('x', new Blob([new Uint8Array(3_000_000)]), {
        onProgress() {
          throw new Error('a bug of the page');
        },
      }),
    ));

  test('an unknown peer', async () => {
    await assert.rejects(peer.list(NOBODY), failsWith('PEER_UNREACHABLE', 'TIMEOUT'));
  });

  test('content that nobody has: not found, with a fallback too', async () => {
    await assert.rejects(peer.get(NOWHERE), failsWith('NOT_FOUND'));
    await assert.rejects(peer.get(NOWHERE, NOBODY), failsWith('NOT_FOUND'));
  });

  test('a fallback that does not have it', async () => {
    const other = await stage.peer();
    await assert.rejects(peer.get(NOWHERE, other.peerID), failsWith('NOT_FOUND'));
    await other.works();
    await other.leave();
  });

  test('calls after close', async () => {
    const closed = await stage.peer({ relays: [] });
    await closed.attempt((peer) => peer.close());
    await closed.attempt((peer) => peer.close());
    await assert.rejects(closed.list(), failsWith('CLOSED'));
    await assert.rejects(closed.attempt((peer) => peer.storeFile('x', 'y')), failsWith('CLOSED'));
    await closed.connect({ relays: [] });
    await closed.works();
  });
});

describe('wrong settings', { timeout: MINUTE }, () => {
  test('keys and addresses that are none, then a good connect in the same page', async () => {
    const peer = await stage.peer({ relays: [] });
    await peer.attempt((peer) => peer.close());
    for (const peerKey of ['nonsense', '', 'AAAA', 'CAESQA=='.repeat(2000)]) {
      await assert.rejects(peer.connect({ relays: [], peerKey }), failsWith('INVALID_KEY'), peerKey.slice(0, 20));
    }
    for (const relay of ['nonsense', '', '/ip4/999.1.1.1/tcp/1/ws', '/unix/tmp/x', 'ftp://relay.example', 'x'.repeat(100_000)]) {
      await assert.rejects(peer.connect({ relays: [relay] }), failsWith('INVALID_ADDRESS'), relay.slice(0, 30));
    }
    await assert.rejects(peer.connect({ relays: 'not a list' }), failsWith('BAD_ARGUMENT'));
    await assert.rejects(peer.connect({ relays: [42] }), failsWith('BAD_ARGUMENT'));
    await peer.connect({ relays: [] });
    await peer.works();
  });

  test('a relay that does not answer: the peer is there, offline', async () => {
    const peer = await stage.peer({ relays: [`/ip4/127.0.0.1/tcp/9/ws/p2p/${NOBODY}`], timeout: 1000 });
    assert.equal(await peer.attempt((peer) => peer.connected), false);
    await peer.works();
  });
});

describe('one identity in two tabs', { timeout: 2 * MINUTE }, () => {
  test('the second is refused, the first goes on, and the place is free after close', async () => {
    const context = await stage.browser.newContext();
    const first = await stage.peer({ relays: [] }, context);
    await assert.rejects(stage.peer({ relays: [] }, context), failsWith('ALREADY_OPEN'));
    await assert.rejects(stage.peer({ relays: [], peerKey: first.peerKey }, context), failsWith('ALREADY_OPEN'));
    await first.works();
    await first.attempt((peer) => peer.close());
    const second = await stage.peer({ relays: [], peerKey: first.peerKey }, context);
    assert.equal(second.peerID, first.peerID);
    await second.works();
  });
});

describe('storage', { timeout: 3 * MINUTE }, () => {
  let context;
  let peer;
  beforeEach(async () => {
    context = await stage.browser.newContext();
    peer = await stage.peer({ relays: [] }, context);
  });
  afterEach(() => context.close());

  test('quota exceeded: nothing half written, the rest is there', async () => {
    const roomy = await stage.browser.newContext();
    const tight = await PeerPage.load(roomy, stage.origin);
    // Before the first use: Chromium remembers for a while how much room there was.
    const devtools = await roomy.newCDPSession(tight.page);
    await devtools.send('Storage.overrideQuotaForOrigin', { origin: stage.origin, quotaSize: 12_000_000 });
    await tight.connect({ relays: [] });
    await tight.attempt((peer) => peer.storeFile('kept.txt', 'kept'));
    const before = await tight.list();
    const file = await noiseFile(stage.folder, 'too-big.bin', 60_000_000, 3);
    await assert.rejects(tight.storeFiles({ 'too-big.bin': file }), failsWith('QUOTA_EXCEEDED'));
    assert.deepEqual(await tight.list(), before);
    await tight.works();
    await devtools.send('Storage.overrideQuotaForOrigin', { origin: stage.origin });
    const { 'too-big.bin': stored } = await tight.storeFiles({ 'too-big.bin': file });
    assert.equal((await tight.get(stored.fileCid)).sha256, await sha256(file));
    await roomy.close();
  });

  test('a corrupt block is found, and got again from a peer that has it', async () => {
    const text = `text to be damaged ${'.'.repeat(2000)}`;
    const { fileCid } = await peer.attempt((peer, text) => peer.storeFile('damaged.txt', text), text);
    await peer.attempt((peer) => peer.close());
    const changed = await peer.attempt(spoil, { start: text.slice(0, 18), how: 'damage' });
    assert.equal(changed, 1);
    await peer.connect({ relays: [stage.relay.address('ws')] });
    await assert.rejects(peer.get(fileCid), failsWith('CORRUPT_BLOCK', 'NOT_FOUND'));
    await peer.works();

    const healthy = await stage.peer({ relays: [stage.relay.address('ws')] });
    await healthy.attempt((peer, text) => peer.storeFile('same.txt', text), text);
    const found = await peer.get(fileCid, healthy.peerID);
    assert.equal(found.size, text.length);
    assert.equal((await peer.get(fileCid)).size, text.length);
    await healthy.leave();
  });

  test('a missing block is a typed error', async () => {
    const text = `text to be lost ${'.'.repeat(2000)}`;
    const { fileCid } = await peer.attempt((peer, text) => peer.storeFile('lost.txt', text), text);
    await peer.attempt((peer) => peer.close());
    assert.equal(await peer.attempt(spoil, { start: text.slice(0, 15), how: 'lose' }), 1);
    await peer.connect({ relays: [] });
    await assert.rejects(peer.get(fileCid), failsWith('NOT_FOUND'));
    assert.equal((await peer.list()).entries['lost.txt'].cid, fileCid);
    await peer.works();
  });

  test('a tab closed while it stores leaves the tree as it was', async () => {
    await peer.attempt((peer) => peer.storeFile('kept.txt', 'kept'));
    const before = await peer.list();
    const file = await noiseFile(stage.folder, 'interrupted.bin', 30_000_000, 5);
    await peer.page.setInputFiles('#files', file);
    // Two thirds of the file, then silence: the tab is closed while the rest is awaited.
    await peer.attempt((peer) => {
      const [file] = document.querySelector('#files').files;
      const reader = file.slice(0, 20_000_000).stream().getReader();
      const content = new ReadableStream({
        async pull(controller) {
          const { done, value } = await reader.read();
          if (done) await new Promise(() => {});
          controller.enqueue(value);
        },
      });
      globalThis.seen = 0;
      const onProgress = ({ bytes }) => {
        globalThis.seen = bytes;
      };
      peer.storeFile('interrupted.bin', content, { onProgress });
    });
    await peer.page.waitForFunction('seen >= 16_000_000');
    await peer.page.close();

    const again = await stage.peer({ relays: [] }, context);
    assert.equal(again.peerID, peer.peerID);
    assert.deepEqual(await again.list(), before);
    await again.works();
    const { 'interrupted.bin': stored } = await again.storeFiles({ 'interrupted.bin': file });
    assert.equal((await again.get(stored.fileCid)).sha256, await sha256(file));
  });

  /** Damages or deletes the records whose value starts with a text, whatever the layout of the databases. */
  async function spoil(_, { start, how }) {
    const wanted = new TextEncoder().encode(start);
    const done = (request) =>
      new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    let changed = 0;
    for (const { name } of await indexedDB.databases()) {
      const database = await done(indexedDB.open(name));
      for (const table of database.objectStoreNames) {
        const store = database.transaction(table, 'readwrite').objectStore(table);
        const [keys, values] = await Promise.all([done(store.getAllKeys()), done(store.getAll())]);
        for (const [at, value] of values.entries()) {
          if (!(value instanceof Uint8Array) || !wanted.every((byte, index) => value[index] === byte)) continue;
          await done(how === 'damage' ? store.put(value.map((byte) => byte ^ 0xff), keys[at]) : store.delete(keys[at]));
          changed += 1;
        }
      }
      database.close();
    }
    return changed;
  }
});

describe('the relay goes away', { timeout: 5 * MINUTE }, () => {
  test('in the middle of a transfer, and comes back', async () => {
    const own = await Stage.open();
    try {
      const relays = [own.relay.address('ws')];
      const [a, b] = await Promise.all([own.peer({ relays }), own.peer({ relays })]);
      const file = await noiseFile(own.folder, 'transfer.bin', 30_000_000, 13);
      const { 'transfer.bin': stored } = await a.storeFiles({ 'transfer.bin': file });

      await b.attempt((peer, { cid, from }) => {
        globalThis.seen = 0;
        const onProgress = ({ bytes }) => {
          globalThis.seen = bytes;
        };
        globalThis.transfer = peer.getFile(cid, from, { onProgress }).then(
          () => 'got',
          (error) => `${error.name} ${error.code}`,
        );
      }, { cid: stored.fileCid, from: a.peerID });
      await b.page.waitForFunction('seen > 0');
      await own.relay.kill();
      // Either it says what happened, or it goes on by itself when the relay is back.
      await b.until((peer) => !peer.connected);
      await b.works();
      await own.relay.restart();
      await Promise.all([a, b].map((peer) => peer.until((peer) => peer.connected, undefined, 90_000)));
      const outcome = await b.attempt(() => globalThis.transfer);
      assert.match(outcome, /^got$|^PeerError (NOT_FOUND|PEER_UNREACHABLE|TIMEOUT|PROTOCOL)$/);

      // A is reachable again as soon as the relay has given it a place, a little after it is connected.
      const found = await eventually(() => b.get(stored.fileCid, a.peerID));
      assert.equal(found.sha256, await sha256(file));
      await a.works();
      await b.works();
    } finally {
      await own.close();
    }
  });
});

/** What works in the end; until then the peer may say that the other cannot be reached. */
async function eventually(work, patience = MINUTE) {
  const deadline = Date.now() + patience;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const passing = ['NOT_FOUND', 'PEER_UNREACHABLE', 'TIMEOUT'].includes(error.code);
      if (!passing || Date.now() >= deadline) throw error;
    }
  }
}
