// Tabs of one origin, in one browser context: they find each other and connect without any network. The relay only
// serves the pages, but where a test says so.

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { PeerPage } from './browser.mjs';
import { Stage, failsWith } from './harness.mjs';

const SIZE = 24_000_000;
/** For what an event tells. Time-outs take three quarters of a minute. */
const SOON = 10_000;
const CHANNEL = 'tabpeer/tabs/1';

/** An identity of its own for each tab: base64 of libp2p's protobuf. */
function newKey() {
  const { d, x } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
  const parts = [Uint8Array.of(8, 1, 0x12, 64), Buffer.from(d, 'base64url'), Buffer.from(x, 'base64url')];
  return Buffer.concat(parts).toString('base64');
}

/** From now on the page keeps a list of who came and went. */
const record = (page) =>
  page.attempt((peer) => {
    globalThis.seen = [];
    for (const type of ['peer:connect', 'peer:disconnect']) {
      peer.addEventListener(type, ({ detail }) => seen.push(`${type} ${detail.peerID}`));
    }
  });

const saw = (page, type, other) =>
  page.until(
    (peer, event) => {
      const at = seen.indexOf(event);
      return at >= 0 && seen.splice(at, 1).length > 0;
    },
    `${type} ${other.peerID}`,
    SOON,
  );

const status = (page) => page.attempt((peer) => peer.status());

/** Waits until these are connected by the tabs' own path. */
const joined = (page, ...others) =>
  page.until(
    async (peer, ids) => {
      const { peers } = await peer.status();
      return ids.every((id) => peers.some(({ peerID, transport }) => peerID === id && transport === 'tab'));
    },
    others.map(({ peerID }) => peerID),
  );

describe('tabs of one origin', { timeout: 300_000 }, () => {
  let stage;
  let context;
  let a;
  let b;
  const tab = (options = {}, where = context) => stage.peer({ relays: [], peerKey: newKey(), ...options }, where);
  before(async () => {
    stage = await Stage.open();
    context = await stage.browser.newContext();
    [a, b] = await Promise.all([tab(), tab()]);
  });
  after(() => stage?.close());

  test('two tabs find each other, and know who the other is', async () => {
    await joined(a, b);
    await joined(b, a);
    const { connected, transports, reachable, addresses, peers } = await status(a);
    assert.deepEqual([connected, reachable, addresses], [true, 'no', []]);
    assert.ok(transports.includes('tab'));
    assert.equal(peers.length, 1);
    const [{ peerID, route, transport, relay, limited }] = peers;
    assert.deepEqual([peerID, route, transport, relay, limited], [b.peerID, 'direct', 'tab', undefined, false]);
    assert.equal(await b.attempt((peer) => peer.connected), true);
    await a.until(async (peer) => (await peer.status()).peers[0].latency >= 0);
    assert.deepEqual([a.transports.length, b.transports.length], [0, 0], 'nothing went over a network');
  });

  test('files, lists, messages and topics go between them', async () => {
    const content = await stage.noise('tab.bin', SIZE, 41);
    const { 'big/tab.bin': stored } = await a.storeFiles({ 'big/tab.bin': content.file });
    const { entries } = await b.list(a.peerID);
    assert.equal(entries['big/tab.bin'].cid, stored.fileCid);
    const { seconds } = await b.receives(stored.fileCid, content, a.peerID, { sources: ['peers'] });
    console.log(`tab to tab: ${(SIZE / 1e6 / seconds).toFixed(1)} MB/s`);

    const listen = (peer) => {
      globalThis.heard = [];
      return peer.start('chat/1', (from, data) => heard.push([from, data]));
    };
    await Promise.all([a.attempt(listen), b.attempt(listen)]);
    for (const [from, to] of [[a, b], [b, a]]) {
      const message = { text: `from ${from.peerID}` };
      await from.attempt((peer, { to, message }) => peer.send(to, 'chat/1', message), { to: to.peerID, message });
      assert.deepEqual(await to.attempt(() => heard), [[from.peerID, message]]);
    }

    const subscribe = (peer) => {
      globalThis.read = [];
      return peer.subscribe('room', (from, data) => read.push([from, data]));
    };
    await Promise.all([a.attempt(subscribe), b.attempt(subscribe)]);
    for (const [from, to] of [[a, b], [b, a]]) {
      await from.until(async (peer, id) => (await peer.listPeers('room')).includes(id), to.peerID);
      await from.attempt((peer) => peer.publish('room', { hello: peer.peerID }));
      await to.until((peer, id) => read.some(([from, data]) => from === id && data.hello === id), from.peerID);
    }
    assert.deepEqual([a.transports.length, b.transports.length], [0, 0], 'nothing went over a network');
  });

  test('one identity is open once, tabs or not', () =>
    assert.rejects(tab({ peerKey: a.peerKey }), failsWith('ALREADY_OPEN')));

  test('a third tab joins, and who closes is missed at once', async () => {
    const c = await tab();
    await joined(c, a, b);
    await joined(a, b, c);
    await Promise.all([record(a), record(b)]);
    const started = performance.now();
    await c.page.close();
    await Promise.all([saw(a, 'peer:disconnect', c), saw(b, 'peer:disconnect', c)]);
    console.log(`closed and missed within ${Math.round(performance.now() - started)} ms`);
    await a.works();
  });

  test('a tab that crashes is missed at once', async () => {
    const c = await tab();
    await joined(c, a, b);
    await record(a);
    // Nothing of it is left to say goodbye. The command has no answer.
    const crashed = new Promise((resolve) => c.page.once('crash', resolve));
    const session = await context.newCDPSession(c.page);
    const started = performance.now();
    session.send('Page.crash').catch(() => {});
    await crashed;
    await saw(a, 'peer:disconnect', c);
    console.log(`crashed and missed within ${Math.round(performance.now() - started)} ms`);
    await c.page.close();
    await a.works();
  });

  test('one that is reloaded is connected again', async () => {
    const options = { relays: [], peerKey: b.peerKey };
    await record(a);
    await b.page.reload();
    await saw(a, 'peer:disconnect', b);
    await b.connect(options);
    await saw(a, 'peer:connect', b);
    await joined(b, a);
  });

  test('put aside it is gone for the others, and back it is connected again', async () => {
    // What a page hears that is frozen, or goes into the cache of pages, and comes back. Chromium freezes and caches no
    // page that holds a lock, as each with a peer does, so it cannot be made to happen here; elsewhere it may.
    const fire = (event) => b.page.evaluate(event);
    for (const [away, back] of [
      ["document.dispatchEvent(new Event('freeze'))", "document.dispatchEvent(new Event('resume'))"],
      ["dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))", "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))"],
    ]) {
      await record(a);
      await fire(away);
      await saw(a, 'peer:disconnect', b);
      await fire(back);
      await saw(a, 'peer:connect', b);
      await joined(b, a);
    }
    await Promise.all([a.works(), b.works()]);
  });

  test('a worker is a tab too', async () => {
    const page = await PeerPage.load(context, stage.origin);
    const id = await page.attempt(
      (_, { peerKey }) => {
        const code = `
          const { connect } = await import('${location.origin}/pkg/index.js');
          globalThis.peer = await connect({ relays: [], peerKey: '${peerKey}' });
          await peer.start('echo/1', (from, data) => { peer.send(from, 'echo/1', data); });
          postMessage(peer.peerID);`;
        globalThis.worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })), { type: 'module' });
        return new Promise((resolve, reject) => {
          worker.onmessage = ({ data }) => resolve(data);
          worker.onerror = ({ message }) => reject(new Error(message));
        });
      },
      { peerKey: newKey() },
    );
    await joined(a, { peerID: id });
    await a.attempt((peer) => peer.start('echo/1', (from, data) => (globalThis.echo = data)));
    await a.attempt((peer, id) => peer.send(id, 'echo/1', 'out and back'), id);
    await a.until(() => globalThis.echo === 'out and back');
    await a.attempt((peer) => peer.stop('echo/1'));
    await record(a);
    await page.attempt(() => worker.terminate());
    await saw(a, 'peer:disconnect', { peerID: id });
    await page.page.close();
  });

  test('with tabs: false it neither finds nor is found, and nothing but a boolean is taken', async () => {
    const c = await tab({ tabs: false });
    const d = await tab();
    await joined(d, a, b);
    const { transports, peers, connected } = await status(c);
    assert.deepEqual([transports.includes('tab'), peers, connected], [false, [], false]);
    assert.ok((await status(d)).peers.every(({ peerID }) => peerID !== c.peerID));
    await Promise.all([c.page.close(), d.page.close()]);
    await assert.rejects(tab({ tabs: 'yes' }), failsWith('BAD_ARGUMENT'));
  });

  test('tabs that share a relay take their own path, and tell nobody of it', async () => {
    const relays = [stage.relay.address('ws')];
    const shared = await stage.browser.newContext();
    const [c, d] = await Promise.all([tab({ relays }, shared), tab({ relays }, shared)]);
    await joined(c, d);
    await joined(d, c);
    const content = await stage.noise('shared.bin', 3_000_000, 43);
    const { 'shared.bin': stored } = await c.storeFiles({ 'shared.bin': content.file });
    const bytes = await d.received(() => d.receives(stored.fileCid, content, c.peerID, { sources: ['peers'] }));
    assert.ok(bytes < 300_000, `${bytes} bytes of 3 MB came through the relay`);
    const { addresses } = await status(c);
    assert.ok(addresses.length > 0 && addresses.every((address) => !address.includes('memory')), `${addresses}`);
    await assert.rejects(c.attempt((peer) => peer.dial('/memory/5')), failsWith('PEER_UNREACHABLE', 'INVALID_ADDRESS'));
    await shared.close();
  });

  test('a script of the origin that talks nonsense harms nothing', async () => {
    const hostile = await PeerPage.load(context, stage.origin);
    await hostile.attempt(start, { CHANNEL, victim: b.peerID });
    // It is there before this one comes, claims to be it, and hears on which channels it connects.
    const c = await tab();
    await joined(c, a, b);
    await joined(a, b, c);
    const content = await stage.noise('hostile.bin', 5_000_000, 45);
    const { 'hostile.bin': stored } = await c.storeFiles({ 'hostile.bin': content.file });
    const contentOfA = await stage.noise('again.bin', 1_000_000, 47);
    const { 'again.bin': fileOfA } = await a.storeFiles({ 'again.bin': contentOfA.file });
    await a.receives(stored.fileCid, content, c.peerID, { sources: ['peers'] });
    // That was in the middle of it; and still is.
    await hostile.until(() => notices > 200 && frames > 200);
    await c.receives(fileOfA.fileCid, contentOfA, a.peerID, { sources: ['peers'] });
    // One that it breaks off is made again.
    await record(a);
    await hostile.attempt(() => breakOff());
    await saw(a, 'peer:disconnect', c);
    await saw(a, 'peer:connect', c);
    await hostile.attempt(() => end());
    await joined(a, b, c);
    await Promise.all([a, b, c].map((page) => page.works()));
    await hostile.page.close();
    // After it, whoever comes is found.
    const d = await tab();
    await joined(d, a, b, c);
    await Promise.all([c.page.close(), d.page.close()]);
  });
});

/** In the hostile page: posts without end, on the channel of all and on those of the connections that it hears of. */
function start(_, { CHANNEL, victim }) {
  globalThis.notices = 0;
  globalThis.frames = 0;
  globalThis.channels = new Map();
  const all = new BroadcastChannel(CHANNEL);
  const random = (length) => crypto.getRandomValues(new Uint8Array(length));
  const below = (number) => Math.floor(Math.random() * number);
  const notice = (kind, ...parts) => Uint8Array.from([1, kind, ...parts.flatMap((part) => [...part])]).buffer;
  const frame = (kind, place, length) => {
    const bytes = new Uint8Array(9 + length);
    bytes[0] = kind;
    new DataView(bytes.buffer).setBigUint64(1, BigInt(place));
    return bytes.buffer;
  };
  const said = [
    () => random(below(200)).buffer,
    () => random(60_000).buffer,
    () => 'text',
    () => ({ from: 1, what: { deep: [1, 2, { three: null }] } }),
    () => random(40),
    () => null,
    // Tabs that do not exist, and connections of theirs.
    () => notice(1, random(8)),
    () => notice(2, random(8), random(8), random(16)),
  ];
  const garbage = [
    () => random(below(100)).buffer,
    () => random(70_000).buffer,
    () => 'text',
    // Data where the stream is not, credit that nobody may give, an end elsewhere.
    () => frame(1, 2 ** 40 + below(1000), 1 + below(60_000)),
    () => frame(2, 2 ** 50, 0),
    () => frame(3, 2 ** 40, 0),
    () => frame(9, 0, 0),
  ];
  const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  all.onmessage = ({ data }) => {
    const bytes = data instanceof ArrayBuffer ? new Uint8Array(data) : [];
    if (bytes.length === 34 && bytes[1] === 2) {
      const name = `${CHANNEL}/${hex(bytes.subarray(18))}`;
      channels.set(name, new BroadcastChannel(name));
    }
  };
  const timer = setInterval(() => {
    for (let n = 0; n < 20; n += 1) {
      all.postMessage(said[below(said.length)]());
      notices += 1;
      for (const channel of channels.values()) {
        channel.postMessage(garbage[below(garbage.length)]());
        frames += 1;
      }
    }
  }, 40);
  // One that exists, as far as its lock says, and is not who it says.
  navigator.locks.request(`${CHANNEL}/${hex(random(8))}/${victim}`, () => new Promise(() => {}));
  globalThis.breakOff = () => {
    for (const channel of channels.values()) channel.postMessage(frame(4, 0, 0));
  };
  globalThis.end = () => clearInterval(timer);
}
