// Topics in Chromium: three browser contexts and a relay. Messages, who is there, what is said when files change, and
// callbacks that misbehave.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Stage, failsWith } from './harness.mjs';

const ROOM = 'e2e/room';

/** Subscribes, and notes what comes in `heard` and who is there in `here`. */
const listen = (peer, topic) => {
  globalThis.heard ??= [];
  globalThis.here ??= new Set();
  return peer.subscribe(
    topic,
    (from, data) => heard.push([from, data instanceof Uint8Array ? `bytes ${data}` : data]),
    (id, joined) => (joined ? here.add(id) : here.delete(id)),
  );
};

const sees = (page, ...others) =>
  page.until((peer, ids) => here.size === ids.length && ids.every((id) => here.has(id)), others.map((other) => other.peerID));

const hears = (page, ...expected) =>
  page.until((peer, expected) => {
    if (JSON.stringify(heard) !== JSON.stringify(expected)) return false;
    heard.length = 0;
    return true;
  }, expected);

const publish = (page, data, topic = ROOM) =>
  page.attempt((peer, { topic, data }) => peer.publish(topic, data), { topic, data });

describe('topics', { timeout: 240_000 }, () => {
  let stage;
  let relays;
  let pages;
  before(async () => {
    stage = await Stage.open();
    relays = [stage.relay.address('ws')];
    const options = { relays, fileUpdateNotifyTopic: ROOM };
    pages = await Promise.all([1, 2, 3].map(() => stage.peer(options)));
  });
  after(() => stage?.close());

  test('three pages hear and see each other through the relay', async () => {
    const [a, b, c] = pages;
    await Promise.all(pages.map((page) => page.attempt(listen, ROOM)));
    await sees(a, b, c);
    await sees(b, a, c);
    await sees(c, a, b);
    assert.equal(await publish(a, { text: 'hello', n: [1, null] }), true);
    await hears(b, [a.peerID, { text: 'hello', n: [1, null] }]);
    await hears(c, [a.peerID, { text: 'hello', n: [1, null] }]);
    await b.attempt((peer, topic) => peer.publish(topic, new Uint8Array([1, 2, 255])), ROOM);
    await hears(a, [b.peerID, 'bytes 1,2,255']);
    await hears(c, [b.peerID, 'bytes 1,2,255']);
    const listed = await a.attempt((peer, topic) => peer.listPeers(topic), ROOM);
    assert.deepEqual(listed.sort(), [b.peerID, c.peerID].sort());
  });

  test('those on the topic are told that files have changed', async () => {
    const [a, b, c] = pages;
    const notice = [a.peerID, { type: 'p2p-webapp-file-update', peer: a.peerID }];
    await a.attempt((peer) => peer.storeFile('a.txt', 'text'));
    await hears(b, notice);
    await a.attempt(async (peer) => {
      await peer.createDirectory('dir');
      await peer.removeFile('a.txt');
    });
    await hears(b, notice, notice);
    await hears(c, notice, notice, notice);
  });

  test('a tab that closes has left, and one that unsubscribes', async () => {
    const [a, b, c] = pages;
    await c.leave();
    await sees(a, b);
    await sees(b, a);
    await b.attempt((peer, topic) => peer.unsubscribe(topic), ROOM);
    await sees(a);
    await publish(a, 'nobody hears');
    // And back again at once.
    await b.attempt(listen, ROOM);
    await sees(a, b);
    await publish(a, 'again');
    // What was published just before may come too, by gossip.
    await b.until(() => heard.at(-1)?.[1] === 'again');
  });

  test('an async iterator takes them one by one and unsubscribes when it is left', async () => {
    const [a, b] = pages;
    await b.attempt(async (peer) => {
      globalThis.taken = [];
      (async () => {
        for await (const message of peer.topic('e2e/iterated')) {
          taken.push(message);
          if (message.data === 2) break;
        }
        taken.push('left');
      })();
    });
    await a.attempt((peer) => peer.subscribe('e2e/iterated', () => {}));
    await a.until(async (peer) => (await peer.listPeers('e2e/iterated')).length === 1);
    await a.attempt((peer) => Promise.all([0, 1, 2, 3].map((n) => peer.publish('e2e/iterated', n))));
    await b.until(() => taken.at(-1) === 'left');
    const taken = await b.attempt(() => taken);
    assert.deepEqual(taken, [0, 1, 2].map((data) => ({ from: a.peerID, data, missed: 0 })).concat('left'));
    await a.until(async (peer) => (await peer.listPeers('e2e/iterated')).length === 0);
    const aborted = await b.attempt((peer) => {
      const controller = new AbortController();
      const next = peer.topic('e2e/aborted', { signal: controller.signal })[Symbol.asyncIterator]().next();
      controller.abort(new Error('enough'));
      return failureOf(next);
    });
    assert.equal(aborted.message, 'enough');
  });

  test('callbacks are awaited in order, and one that throws or never returns is its own trouble', async () => {
    const [a, b] = pages;
    await b.attempt(async (peer) => {
      globalThis.order = [];
      await Promise.all([
        peer.subscribe('e2e/odd', async (_, n) => {
          order.push(`begin ${n}`);
          await new Promise((resolve) => setTimeout(resolve, 20));
          order.push(`end ${n}`);
          if (n === 1) throw new Error('of the app');
        }),
        peer.subscribe('e2e/odd', () => new Promise(() => {})),
      ]);
    });
    await a.attempt((peer) => peer.subscribe('e2e/odd', () => {}));
    await a.attempt((peer) => Promise.all([1, 2, 3].map((n) => peer.publish('e2e/odd', n))));
    await b.until(() => order.length === 6);
    const order = await b.attempt(() => order);
    assert.deepEqual(order, [1, 2, 3].flatMap((n) => [`begin ${n}`, `end ${n}`]));
    await b.attempt((peer) => peer.unsubscribe('e2e/odd'));
    await b.works();
  });

  test('bad input is refused with a code', async () => {
    const [a] = pages;
    const bad = {
      BAD_ARGUMENT: [
        (peer) => peer.subscribe('', () => {}),
        (peer) => peer.subscribe('x'.repeat(201), () => {}),
        (peer) => peer.subscribe(7, () => {}),
        (peer) => peer.subscribe('x'),
        (peer) => peer.subscribe('x', () => {}, 'no function'),
        (peer) => peer.publish('x', () => {}),
        (peer) => peer.publish('x', 1n),
        (peer) => peer.publish('x', undefined),
        (peer) => peer.publish('x', new Blob(['x'])),
        (peer) => {
          const cycle = {};
          cycle.cycle = cycle;
          return peer.publish('x', cycle);
        },
        (peer) => peer.listPeers({}),
      ],
      TOO_LARGE: [(peer) => peer.publish('x', 'x'.repeat(200_000)), (peer) => peer.publish('x', new Uint8Array(200_000))],
      BUSY: [
        async (peer) => {
          const outcomes = await Promise.allSettled(Array.from({ length: 10_000 }, (_, n) => peer.subscribe(`e2e/${n}`, () => {})));
          for (let n = 0; n < 10_000; n++) await peer.unsubscribe(`e2e/${n}`);
          const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
          if (refused.length < 9_700) throw new Error(`only ${refused.length} of 10000 were refused`);
          throw refused[0].reason;
        },
      ],
    };
    for (const [code, calls] of Object.entries(bad)) {
      for (const call of calls) await assert.rejects(a.attempt(call), failsWith(code), String(call));
    }
    assert.equal(await a.attempt((peer) => peer.unsubscribe('never subscribed')), undefined);
    await a.works();
  });

  test('a client that is closed ends its subscriptions', async () => {
    const [a, b] = pages;
    const ended = await b.attempt(async (peer) => {
      const loop = (async () => {
        for await (const _ of peer.topic('e2e/closing'));
        return 'ended';
      })();
      await peer.listPeers('e2e/closing');
      await new Promise((resolve) => setTimeout(resolve, 1500));
      await peer.close();
      return loop;
    });
    assert.equal(ended, 'ended');
    await sees(a);
    await assert.rejects(publish(b, 1), failsWith('CLOSED'));
    assert.deepEqual([a.problems, b.problems], [[], []]);
  });
});
