// Connections of real pages: events, status, peers that are kept, and the life of a tab.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { failsWith, Stage } from './harness.mjs';

const MINUTE = 60_000;
const SOMEBODY = '12D3KooWQQK7pGPaTxZn2gtfxoVTyfJ8T4YQmgzTT5jKYpBdV7op';

/** From now on the page keeps a list of its events. */
async function record(peer) {
  await peer.attempt((peer) => {
    globalThis.heard = [];
    for (const type of ['peer:connect', 'peer:disconnect', 'relay:up', 'relay:down', 'close']) {
      peer.addEventListener(type, ({ detail }) => heard.push({ type, detail }));
    }
    globalThis.updates = 0;
    peer.addEventListener('update', () => updates++);
  });
}

/** Waits for an event of this type that was not waited for yet. */
async function hears(peer, type, who, timeout) {
  const wanted = { type, who };
  const found = (peer, { type, who }) => heard.some((event) => event.type === type && (!who || event.detail.peerID === who));
  await peer.until(found, wanted, timeout);
  return peer.attempt((peer, { type, who }) => {
    const at = heard.findIndex((event) => event.type === type && (!who || event.detail.peerID === who));
    return heard.splice(at, 1)[0].detail;
  }, wanted);
}

const status = (peer) => peer.attempt((peer) => peer.status());

describe('connections', { timeout: 10 * MINUTE }, () => {
  let stage;
  let relays;
  before(async () => {
    stage = await Stage.open();
    relays = [stage.relay.address('ws')];
  });
  after(() => stage?.close());

  test('the status says how everything stands', async () => {
    const [a, b] = await Promise.all([stage.peer({ relays }), stage.peer({ relays })]);
    await record(a);
    await record(b);
    await a.attempt((peer, id) => peer.addPeers([id]), b.peerID);
    const told = await hears(a, 'peer:connect', b.peerID);
    assert.deepEqual([told.route, told.relay, told.transport, told.protected], ['relayed', stage.relay.peerId, 'websocket', true]);
    await hears(b, 'peer:connect', a.peerID);
    await a.until(async (peer) => (await peer.status()).peers[0]?.latency > 0);

    const seen = await status(a);
    assert.deepEqual([seen.peerID, seen.connected, seen.reachable], [a.peerID, true, 'relayed']);
    assert.ok(seen.addresses.every((address) => address.includes('p2p-circuit')) && seen.addresses.length > 0);
    assert.deepEqual(seen.transports, ['websocket', 'webtransport', 'tab']);
    assert.deepEqual(seen.protected, [b.peerID]);
    assert.equal(seen.relays.length, 1);
    const [relay] = seen.relays;
    assert.deepEqual([relay.relay, relay.peerID, relay.state, relay.reason], [relays[0], stage.relay.peerId, 'reserved', undefined]);
    assert.equal(seen.peers.length, 1);
    const [other] = seen.peers;
    assert.deepEqual([other.peerID, other.route, other.protected, other.limited], [b.peerID, 'relayed', true, false]);
    assert.match(other.agent, /^tabpeer\//);
    assert.ok(other.protocols.includes('/ipfs/ping/1.0.0'));
    assert.ok(seen.storage.used >= 0 && seen.storage.quota > 0);
    assert.equal((await status(b)).peers[0].protected, false);

    await a.leave();
    await hears(b, 'peer:disconnect', a.peerID);
    assert.deepEqual((await status(b)).peers, []);
    await b.works();
    await b.leave();
  });

  test('wrong lists of peers are refused', () =>
    stage.visitor({ relays: [] }, async (peer) => {
      const add = (peers) => peer.attempt((peer, peers) => peer.addPeers(peers), peers);
      await assert.rejects(add(peer.peerID), failsWith('BAD_ARGUMENT'));
      await assert.rejects(add([peer.peerID]), failsWith('BAD_ARGUMENT'));
      await assert.rejects(add(['nobody']), failsWith('INVALID_PEER_ID'));
      await assert.rejects(add([42]), failsWith('BAD_ARGUMENT'));
      await assert.rejects(add(Array(65).fill(SOMEBODY)), failsWith('BAD_ARGUMENT'));
      await assert.rejects(peer.attempt((peer) => peer.removePeers()), failsWith('BAD_ARGUMENT'));
      await add([]);
      await add([SOMEBODY, SOMEBODY]);
      assert.deepEqual((await status(peer)).protected, [SOMEBODY]);
      await peer.attempt((peer, id) => peer.removePeers([id, id]), SOMEBODY);
      assert.deepEqual((await status(peer)).protected, []);
      await peer.works();
    }));

  test('onClose and the event are called once, and nothing after them', () =>
    stage.visitor({ relays }, async (peer) => {
      await peer.attempt((peer) => peer.close());
      const closed = await peer.attempt(async (_, relays) => {
        const { connect } = await import('tabpeer');
        const refused = await failureOf(connect({ relays, onClose: 'no function' }));
        const heard = [];
        const client = await connect({ relays, onClose: () => heard.push('onClose') });
        for (const type of ['relay:down', 'update', 'close']) client.addEventListener(type, () => heard.push(type));
        // A listener that throws is the page's problem, and nobody else's.
        addEventListener('error', (event) => event.preventDefault(), { once: true });
        client.addEventListener('relay:down', () => {
          throw new Error('on purpose');
        });
        const ended = new Promise((resolve) => client.addEventListener('close', () => setTimeout(resolve)));
        await Promise.all([client.close(), client.close(), ended]);
        return { refused: refused.code, heard, status: (await failureOf(client.status())).code };
      }, relays);
      assert.equal(closed.refused, 'BAD_ARGUMENT');
      assert.deepEqual(closed.heard.slice(-4), ['relay:down', 'update', 'onClose', 'close']);
      assert.equal(closed.heard.filter((type) => /close/i.test(type)).length, 2);
      assert.equal(closed.status, 'CLOSED');
      peer.problems.splice(0, peer.problems.length, ...peer.problems.filter((problem) => !problem.includes('on purpose')));
    }));

  describe('two pages that keep each other', () => {
    let a;
    let b;
    before(async () => {
      [a, b] = await Promise.all([stage.peer({ relays }), stage.peer({ relays })]);
      await record(a);
      await a.attempt((peer, id) => peer.addPeers([id]), b.peerID);
      await hears(a, 'peer:connect', b.peerID);
    });
    after(() => Promise.all([a?.leave(), b?.leave()]));

    test('a page that was reloaded is connected again', async () => {
      await b.page.reload();
      await hears(a, 'peer:disconnect', b.peerID);
      await b.connect({ relays });
      await hears(a, 'peer:connect', b.peerID);
    });

    test('a relay that comes back brings both back', async () => {
      await record(a);
      await stage.relay.kill();
      const { relay, reason } = await hears(a, 'relay:down');
      assert.equal(relay, relays[0]);
      assert.ok(reason.length > 0);
      await hears(a, 'peer:disconnect', b.peerID);
      const { connected, reachable, relays: [standing] } = await status(a);
      assert.deepEqual([connected, reachable], [false, 'no']);
      assert.ok(['waiting', 'connecting'].includes(standing.state), standing.state);
      if (standing.state === 'waiting') assert.ok(standing.retryIn >= 0 && standing.reason);
      await stage.relay.restart();
      await hears(a, 'relay:up');
      await hears(a, 'peer:connect', b.peerID);
    });

    test('frozen and active again, it is connected again', async () => {
      const session = await a.page.context().newCDPSession(a.page);
      await record(a);
      await session.send('Page.setWebLifecycleState', { state: 'frozen' });
      // Meanwhile the relay is another process, which knows nothing of the page.
      await stage.relay.kill();
      await stage.relay.restart();
      await session.send('Page.setWebLifecycleState', { state: 'active' });
      await session.detach();
      await hears(a, 'relay:up');
      await connectedWith(a, b);
      await a.works();
    });

    test('whatever may have brought the network back, it tries at once', async () => {
      const context = a.page.context();
      await stage.relay.kill();
      const fire = (target, type) => a.page.evaluate(`${target}.dispatchEvent(new Event('${type}'))`);
      for (const [what, happens] of [
        ['offline', () => context.setOffline(true)],
        ['online', () => context.setOffline(false)],
        ['looked at', () => fire('document', 'visibilitychange')],
        ['resumed', () => fire('document', 'resume')],
        ['back from the cache', () => fire('globalThis', 'pageshow')],
      ]) {
        await a.until(async (peer) => (await peer.status()).relays[0].retryIn > 3000);
        const dialled = a.transports.length;
        await happens();
        const patience = performance.now() + 2500;
        while (a.transports.length === dialled) {
          assert.ok(performance.now() < patience, `${what}, and nothing was dialled`);
          await setTimeout(20);
        }
      }
      await stage.relay.restart();
      await fire('globalThis', 'online');
      await connectedWith(a, b);
    });

    test('gone offline with the relay silent, it notices soon', async () => {
      await record(a);
      const goOn = stage.relay.pause();
      try {
        const context = a.page.context();
        await context.setOffline(true);
        await hears(a, 'relay:down', stage.relay.peerId, 20_000);
        await context.setOffline(false);
      } finally {
        goOn();
      }
      await hears(a, 'relay:up', stage.relay.peerId);
      await connectedWith(a, b);
    });

    test('who is no longer kept is left alone', async () => {
      await a.attempt((peer, id) => peer.removePeers([id]), b.peerID);
      assert.deepEqual((await status(a)).protected, []);
      assert.equal((await status(a)).peers.length, 1, 'the connection stays');
      await a.works();
    });
  });
});

function connectedWith(peer, other) {
  return peer.until(async (peer, id) => (await peer.status()).peers.some(({ peerID }) => peerID === id), other.peerID);
}
