// Topics between a page and js-libp2p's gossipsub in Node.js: as neighbours, and with nothing but a relay of ours between
// them. Both directions, who is there, and that neither comes to think ill of the other.

import './node-20.mjs';
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { gossipsub } from '@libp2p/gossipsub';
import { identify } from '@libp2p/identify';
import { noise } from '@libp2p/noise';
import { webSockets } from '@libp2p/websockets';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { Stage } from '../e2e/harness.mjs';

const ROOM = 'interop/room';
const MINUTE = 60_000;
const PATIENCE = 30_000;

/** A js-libp2p node with its defaults, and what it has heard. */
async function jsPeer() {
  const node = await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0/ws'] },
    transports: [webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify(), pubsub: gossipsub() },
    connectionGater: { denyDialMultiaddr: () => false },
  });
  const { pubsub } = node.services;
  const heard = [];
  pubsub.addEventListener('message', ({ detail }) => heard.push([detail.from.toString(), new TextDecoder().decode(detail.data)]));
  return {
    node,
    pubsub,
    heard,
    id: node.peerId.toString(),
    publish: (text) => pubsub.publish(ROOM, new TextEncoder().encode(text)),
    dial: (address) => node.dial(multiaddr(address)),
    address: () => node.getMultiaddrs()[0].toString(),
    subscribers: () => pubsub.getSubscribers(ROOM).map(String),
  };
}

async function until(condition, what) {
  for (const started = Date.now(); !(await condition()); await sleep(50)) {
    if (Date.now() - started > PATIENCE) throw new Error(`it did not happen: ${what}`);
  }
}

/** Subscribes a page, and notes what it hears and who it sees. */
async function listens(page) {
  await page.attempt((peer, topic) => {
    globalThis.heard = [];
    globalThis.here = [];
    return peer.subscribe(
      topic,
      (from, data) => heard.push([from, data instanceof Uint8Array ? `bytes ${data}` : data]),
      (id, joined) => here.push([id, joined]),
    );
  }, ROOM);
}

const hears = (page, ...expected) =>
  page.until((_, expected) => expected.every((one) => heard.some((other) => JSON.stringify(other) === JSON.stringify(one))), expected);

for (const way of ['as neighbours', 'through the relay']) {
  describe(`a page and js-libp2p on a topic, ${way}`, { timeout: 4 * MINUTE }, () => {
    let stage;
    let page;
    let js;
    before(async () => {
      [stage, js] = await Promise.all([Stage.open(), jsPeer()]);
      if (way === 'as neighbours') {
        page = await stage.peer({ relays: [] });
        await page.attempt((peer, address) => peer.dial(address), js.address());
      } else {
        page = await stage.peer({ relays: [stage.relay.address('ws')] });
        await js.dial(stage.relay.address('ws'));
      }
      js.pubsub.subscribe(ROOM);
      await listens(page);
    });
    after(() => Promise.all([js?.node.stop(), stage?.close()]));

    test('the page sees it come', () => page.until((_, id) => here.some(([peer, joined]) => peer === id && joined), js.id));

    test('what it publishes the page hears, as JSON or bytes', async () => {
      await until(() => js.subscribers().length > 0, 'js-libp2p knows somebody on the topic');
      await js.publish('{"text":"hello"}');
      await js.publish('not JSON');
      await hears(page, [js.id, { text: 'hello' }], [js.id, `bytes ${new TextEncoder().encode('not JSON')}`]);
    });

    test('what the page publishes it hears', async () => {
      await page.attempt((peer, topic) => peer.publish(topic, { text: 'hi' }), ROOM);
      await page.attempt((peer, topic) => peer.publish(topic, new TextEncoder().encode('bytes')), ROOM);
      await until(() => js.heard.length === 2, 'js-libp2p hears two messages');
      assert.deepEqual(js.heard, [[page.peerID, '{"text":"hi"}'], [page.peerID, 'bytes']]);
    });

    test('many in both directions, none lost or twice, and no bad score', async () => {
      const count = 300;
      js.heard.length = 0;
      await page.attempt(() => void (heard.length = 0));
      const fromPage = page.attempt(async (peer, { topic, count }) => {
        for (let n = 0; n < count; n++) await peer.publish(topic, n);
      }, { topic: ROOM, count });
      for (let n = 0; n < count; n++) {
        await js.publish(String(n));
        await sleep(5);
      }
      await fromPage;
      const all = Array.from({ length: count }, (_, n) => n);
      await page.until((_, count) => heard.length >= count, count);
      await until(() => js.heard.length >= count, 'js-libp2p hears all');
      // Longer than gossip and its promises take.
      await sleep(4000);
      const heard = await page.attempt(() => heard.map(([, n]) => n));
      assert.deepEqual(heard.sort((a, b) => a - b), all);
      assert.deepEqual(js.heard.map(([, text]) => Number(text)).sort((a, b) => a - b), all);
      for (const peer of js.node.getPeers()) {
        const score = js.pubsub.score.score(peer.toString());
        assert.ok(score >= 0, `${peer} has a score of ${score}`);
      }
    });

    test('the page sees it go', async () => {
      js.pubsub.unsubscribe(ROOM);
      await page.until((_, id) => here.some(([peer, joined]) => peer === id && !joined), js.id);
      assert.deepEqual(page.problems, []);
    });
  });
}
