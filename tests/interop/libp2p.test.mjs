// js-libp2p, in Node.js and in Chromium, and Kubo: identify, ping and the DHT with a page and the relay; and a topic with
// a page of js-libp2p's. (topics.test.mjs has the topics of js-libp2p in Node.js.)

import './node-20.mjs';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import { CID } from 'multiformats/cid';
import { sha256 } from '../e2e/fixtures.mjs';
import { Stage } from '../e2e/harness.mjs';
import { Content, MIB } from './content.mjs';
import { addFile, startHelia } from './helia.mjs';
import { dht, startLibp2p } from './libp2p.mjs';
import { RealPeer } from './real-peer.mjs';
import { bundledSite } from './site.mjs';

const MINUTE = 60_000;
const PATIENCE = 30_000;
const WS = ['/ip4/127.0.0.1/tcp/0/ws'];
const ROOM = 'interop/pages';

let stage;
let content;
before(async () => {
  [stage, content] = await Promise.all([Stage.open(), Content.make()]);
});
after(() => Promise.all([stage?.close(), content?.remove()]));

async function until(condition, what) {
  for (const started = Date.now(); !(await condition()); await sleep(50)) {
    if (Date.now() - started > PATIENCE) throw new Error(`it did not happen: ${what}`);
  }
}

const address = (node) => node.getMultiaddrs()[0].toString();
const dials = (page, address) => page.attempt((peer, address) => peer.dial(address), address);
const connectedWith = (page, id) => page.until(async (peer, id) => (await peer.status()).peers.some(({ peerID }) => peerID === id), id);

/** What the page knows of a peer once it has pinged it. */
async function pinged(page, id) {
  await page.until(async (peer, id) => (await peer.status()).peers.some(({ peerID, latency }) => peerID === id && latency > 0), id);
  const { peers } = await page.attempt((peer) => peer.status());
  return peers.find(({ peerID }) => peerID === id);
}

describe('identify and ping', { timeout: 3 * MINUTE }, () => {
  test('js-libp2p in Node.js, both ways', () =>
    stage.visitor({ relays: [] }, async (page) => {
      const js = await startLibp2p({ listen: WS });
      try {
        await dials(page, address(js));
        const known = await pinged(page, js.peerId.toString());
        assert.match(known.agent, /^js-libp2p\/3\./);
        assert.ok(known.protocols.includes('/ipfs/ping/1.0.0'));
        const id = peerIdFromString(page.peerID);
        assert.ok((await js.services.ping.ping(id)) >= 0);
        await until(async () => (await js.peerStore.get(id)).protocols.includes('/ipfs/bitswap/1.2.0'), 'it knows what the page speaks');
        const agent = (await js.peerStore.get(id)).metadata.get('AgentVersion');
        assert.match(new TextDecoder().decode(agent), /^tabpeer\//);
      } finally {
        await js.stop();
      }
    }));

  test('Kubo', () =>
    stage.visitor({ relays: [] }, async (page) => {
      const [kubo] = await RealPeer.startAll('kubo');
      try {
        await dials(page, kubo.address('ws'));
        const known = await pinged(page, kubo.peerId);
        assert.match(known.agent, /^kubo\/0\.22\./);
        for (const protocol of ['/ipfs/ping/1.0.0', '/ipfs/id/1.0.0', '/ipfs/bitswap/1.2.0']) assert.ok(known.protocols.includes(protocol), protocol);
        assert.deepEqual(await kubo.peers(), [page.peerID]);
      } finally {
        await kubo.stop();
      }
    }));
});

for (const kind of ['js-libp2p', 'Kubo']) {
  describe(`a page as a client of the DHT, with ${kind} as its only server`, { timeout: 4 * MINUTE }, () => {
    let server;
    let provider;
    let file;
    let cid;
    before(async () => {
      if (kind === 'Kubo') {
        const [kubo] = await RealPeer.startAll('kubo-dht');
        server = { id: kubo.peerId, address: kubo.address('ws'), stop: () => kubo.stop() };
      } else {
        const js = await startLibp2p({ listen: WS, server: true });
        server = { id: js.peerId.toString(), address: address(js), stop: () => js.stop() };
      }
      // A Helia has content, is reachable, and tells the server of both. The page does not know it.
      file = await content.file(MIB + 3, 41 + kind.length);
      provider = await startHelia({ listen: WS, services: dht({ server: false }) });
      cid = await addFile(provider, [await readFile(file)], { profile: 'unixfs-v1-2025' });
      await provider.libp2p.dial(multiaddr(server.address));
      const table = () => provider.libp2p.services.dht.routingTable.size > 0;
      await until(table, 'the provider knows the server');
      await provider.libp2p.contentRouting.provide(CID.parse(cid), { signal: AbortSignal.timeout(PATIENCE) });
    });
    after(() => Promise.all([provider?.stop(), server?.stop()]));

    test('it finds the provider, and gets the content there', () =>
      stage.visitor({ relays: [] }, async (page) => {
        await dials(page, server.address);
        const found = await page.attempt(
          async (peer, cid) => sha256((await peer.getFile(cid, undefined, { sources: ['network'], timeout: 30_000 })).bytes),
          cid,
        );
        assert.equal(found, await sha256(file));
        await connectedWith(page, provider.libp2p.peerId.toString());
      }));

    test('it finds a peer by its id', () =>
      stage.visitor({ relays: [] }, async (page) => {
        await dials(page, server.address);
        const id = provider.libp2p.peerId.toString();
        await page.attempt((peer, id) => peer.addPeers([id]), id);
        await connectedWith(page, id);
      }));
  });
}

describe('js-libp2p as a client of the DHT, with the relay as its only server', { timeout: 2 * MINUTE }, () => {
  test('it finds who provides what a page has stored, and reaches the page', async () => {
    const page = await stage.peer({ relays: [stage.relay.address('ws')] });
    const js = await startLibp2p({ server: false });
    try {
      const { fileCid } = await page.attempt(async (peer) => {
        const stored = await peer.storeFile('provided.txt', 'provided');
        await peer.provide(stored.fileCid);
        return stored;
      });
      await js.dial(multiaddr(stage.relay.address('ws')));
      await until(() => js.services.dht.routingTable.size > 0, 'it knows the relay');
      const providers = [];
      for await (const provider of js.contentRouting.findProviders(CID.parse(fileCid), { signal: AbortSignal.timeout(PATIENCE) })) {
        providers.push(provider);
        break;
      }
      const [{ id, multiaddrs }] = providers;
      assert.equal(id.toString(), page.peerID);
      const circuit = multiaddrs.find((one) => one.toString().includes('/ws/') && one.toString().includes('/p2p-circuit'));
      assert.ok(circuit, multiaddrs.join(' '));
      const text = circuit.toString();
      await js.dial(multiaddr(text.includes(page.peerID) ? text : `${text}/p2p/${page.peerID}`));
      assert.ok((await js.services.ping.ping(id)) >= 0);
      await page.works();
    } finally {
      await js.stop();
      await page.leave();
    }
  });
});

describe('a page and js-libp2p in Chromium', { timeout: 3 * MINUTE }, () => {
  let site;
  let js;
  let page;
  before(async () => {
    site = await bundledSite('libp2p-page');
    page = await stage.peer({ relays: [stage.relay.address('ws')] });
    js = await (await stage.browser.newContext()).newPage();
    await js.goto(site.origin);
    await js.waitForFunction(() => globalThis.js, undefined, { timeout: MINUTE });
    await js.evaluate((address) => globalThis.js.dial(address), stage.relay.address('ws'));
  });
  after(() => site?.close());

  test('ping, both ways, through a circuit', async () => {
    const circuit = `${stage.relay.address('ws')}/p2p-circuit/p2p/${page.peerID}`;
    const remote = await js.evaluate((address) => globalThis.js.dial(address), circuit);
    assert.ok(remote.includes('/p2p-circuit'), remote);
    assert.ok((await js.evaluate((peer) => globalThis.js.ping(peer), page.peerID)) >= 0);
    const known = await pinged(page, await js.evaluate(() => globalThis.js.peerId));
    assert.deepEqual([known.route, known.agent.split('/')[0]], ['relayed', 'js-libp2p']);
  });

  test('a topic, both ways, through the relay', async () => {
    const id = await js.evaluate(() => globalThis.js.peerId);
    await js.evaluate((topic) => globalThis.js.subscribe(topic), ROOM);
    await page.attempt((peer, topic) => {
      globalThis.heard = [];
      globalThis.here = [];
      return peer.subscribe(topic, (from, data) => heard.push([from, data]), (peer, joined) => here.push([peer, joined]));
    }, ROOM);
    await page.until((_, id) => here.some(([peer, joined]) => peer === id && joined), id);
    await until(() => js.evaluate((topic) => globalThis.js.subscribers(topic).length > 0, ROOM), 'js-libp2p knows somebody on the topic');
    const count = 50;
    const numbers = Array.from({ length: count }, (_, n) => n);
    await Promise.all([
      page.attempt(async (peer, { topic, count }) => {
        for (let n = 0; n < count; n++) await peer.publish(topic, { n });
      }, { topic: ROOM, count }),
      js.evaluate(async ({ topic, count }) => {
        for (let n = 0; n < count; n++) {
          await globalThis.js.publish(topic, JSON.stringify({ n }));
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      }, { topic: ROOM, count }),
    ]);
    await page.until((_, count) => heard.length >= count, count);
    await until(() => js.evaluate((count) => globalThis.js.heard.length >= count, count), 'js-libp2p hears all');
    const byNumber = (messages, read) => messages.map(([from, data]) => [from, read(data).n]).sort(([, a], [, b]) => a - b);
    assert.deepEqual(byNumber(await page.attempt(() => heard), (data) => data), numbers.map((n) => [id, n]));
    assert.deepEqual(byNumber(await js.evaluate(() => globalThis.js.heard), JSON.parse), numbers.map((n) => [page.peerID, n]));
    await page.works();
  });
});
