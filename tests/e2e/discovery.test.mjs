// Pages that no relay names to each other find each other: by a third page, and through the DHT.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { failsWith, Stage } from './harness.mjs';
import { Relay } from './relay.mjs';

const ROOM = 'e2e/far and wide';
const SOMEBODY = '12D3KooWQQK7pGPaTxZn2gtfxoVTyfJ8T4YQmgzTT5jKYpBdV7op';

const listen = (peer, topic) => {
  globalThis.heard = [];
  globalThis.here = new Set();
  return peer.subscribe(
    topic,
    (from, data) => heard.push([from, data]),
    (id, joined) => (joined ? here.add(id) : here.delete(id)),
  );
};

const sees = (page, ...others) =>
  page.until((peer, ids) => here.size === ids.length && ids.every((id) => here.has(id)), others.map((other) => other.peerID));

/** What `from` publishes arrives at `to`. */
async function reaches(from, to, data) {
  await from.attempt((peer, { topic, data }) => peer.publish(topic, data), { topic: ROOM, data });
  await to.until((peer, expected) => heard.some((entry) => JSON.stringify(entry) === expected), JSON.stringify([from.peerID, data]));
}

describe('discovery', { timeout: 240_000 }, () => {
  let stage;
  /** Two that serve no DHT, and one that serves it and carries no topics. */
  let relays;
  let addresses;
  before(async () => {
    stage = await Stage.open({});
    const start = (settings) => Relay.start({ site: stage.site, settings });
    const apart = '[dht]\nenabled = false\n';
    relays = await Promise.all([apart, apart, '[gossipsub]\nenabled = false\n'].map(start));
    addresses = relays.map((relay) => relay.address('ws'));
  });
  after(async () => {
    await Promise.all((relays ?? []).map((relay) => relay.stop()));
    await stage?.close();
  });

  test('pages at two relays hear each other by a third page, and without it then', async () => {
    const [first, second] = addresses;
    const pages = await Promise.all([[first], [first, second], [second]].map((relays) => stage.peer({ relays })));
    const [a, b, c] = pages;
    await b.until(async (peer) => (await peer.status()).relays.every(({ state }) => state === 'reserved'));
    await Promise.all(pages.map((page) => page.attempt(listen, ROOM)));
    await Promise.all([sees(a, b, c), sees(b, a, c), sees(c, a, b)]);
    await b.leave();
    await Promise.all([sees(a, c), sees(c, a)]);
    await reaches(a, c, { hello: 'over there' });
    await reaches(c, a, { hello: 'here' });
    assert.deepEqual([a.problems, c.problems], [[], []]);
    await Promise.all([a.leave(), c.leave()]);
  });

  test('so do pages that share only the DHT, and find out where the other is', async () => {
    const [first, second, server] = addresses;
    const [a, b] = await Promise.all([[first], [second]].map((relays) => stage.peer({ relays })));
    // Nobody serves the DHT yet.
    for (const page of [a, b]) {
      assert.equal(await page.attempt((peer) => peer.dhtReady), false);
      await page.attempt((peer) => {
        globalThis.states = [];
        peer.addEventListener('update', async () => states.push((await peer.status()).dht));
      });
      await page.attempt((peer, server) => peer.dial(server), server);
      await page.until(() => states.includes('ready'));
    }
    // An announcement is not answered: it may be there a moment later.
    await b.until(async (peer, id) => {
      try {
        globalThis.found = await peer.findPeer(id);
        return true;
      } catch (error) {
        if (error.code !== 'NOT_FOUND') throw error;
        return false;
      }
    }, a.peerID);
    const found = await b.attempt(() => found);
    assert.ok(found.includes(`${first}/p2p-circuit/p2p/${a.peerID}`), `${found}`);

    await Promise.all([a, b].map((page) => page.attempt(listen, ROOM)));
    await Promise.all([sees(a, b), sees(b, a)]);
    await reaches(a, b, 'by the DHT');
    await reaches(b, a, 'and back');
    assert.deepEqual([a.problems, b.problems], [[], []]);
    await Promise.all([a.leave(), b.leave()]);
  });

  test('whether the DHT is ready is told of the connection that there is', () =>
    stage.visitor({ relays: [] }, async (peer) => {
      const answers = await peer.attempt(async (_, relay) => {
        const { P2PWebAppClient, generatePeerKey } = await import('tabpeer');
        const client = new P2PWebAppClient();
        const unconnected = await client.dhtReady.catch(({ code }) => code);
        const peerKey = await generatePeerKey();
        const answers = [unconnected];
        for (const relays of [[], [relay]]) {
          await client.connect({ relays, peerKey, tabs: false });
          answers.push(await client.dhtReady);
          await client.close();
        }
        return answers;
      }, stage.relay.address('ws'));
      assert.deepEqual(answers, ['CLOSED', false, true]);
    }));

  test('with a relay of ours the DHT is ready, and what nobody knows is not found', () =>
    stage.visitor({ relays: [stage.relay.address('ws')] }, async (peer) => {
      assert.equal(await peer.attempt((peer) => peer.dhtReady), true);
      assert.equal(await peer.attempt(async (peer) => (await peer.status()).dht), 'ready');
      const find = (id, options) => peer.attempt((peer, { id, options }) => peer.findPeer(id, options), { id, options });
      await assert.rejects(find(SOMEBODY), failsWith('NOT_FOUND'));
      await assert.rejects(find('nobody'), failsWith('INVALID_PEER_ID'));
      await assert.rejects(find(peer.peerID), failsWith('BAD_ARGUMENT'));
      await assert.rejects(find(SOMEBODY, { timeout: -1 }), failsWith('BAD_ARGUMENT'));
      const aborted = await peer.attempt((peer, id) => {
        const controller = new AbortController();
        const found = peer.findPeer(id, { signal: controller.signal });
        controller.abort(new Error('enough'));
        return failureOf(found);
      }, SOMEBODY);
      assert.equal(aborted.message, 'enough');
      assert.deepEqual(await find(stage.relay.peerId), [stage.relay.address('ws')]);
      await peer.works();
    }));

  test('what asks the DHT waits while a relay may still come, for as long as it is told', () =>
    stage.visitor({ relays: ['/ip4/127.0.0.1/tcp/9/ws'], timeout: 1 }, async (peer) => {
      assert.equal(await peer.attempt(async (peer) => (await peer.status()).dht), 'bootstrapping');
      const late = peer.attempt((peer, id) => peer.findPeer(id, { timeout: 200 }), SOMEBODY);
      await assert.rejects(late, failsWith('TIMEOUT'));
    }));
});
