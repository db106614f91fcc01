// Everything at once: three pages on a topic that also talk to each other, while the relay dies and comes back; and what
// becomes of messages and topics when a tab is frozen, offline, or left and come back to.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Stage } from './harness.mjs';

const MINUTE = 60_000;
const ROOM = 'e2e/conversation';
const PRIVATE = 'conversation/1';

/** From now on the page says numbers, in the room and to each of the others, until `talk.done`. It takes its time: what is
 * tested is that they come, and a loaded machine has three pages and a relay to run. */
function converse(peer, { others, room, protocol }) {
  const lists = () => Object.fromEntries(others.map((id) => [id, []]));
  const talk = { acknowledged: lists(), told: lists(), heard: lists(), failed: [], said: 0, left: [], done: false };
  globalThis.talk = talk;
  const breathe = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const tell = async (to) => {
    for (let n = 1; !talk.done; n++) {
      const outcome = await failureOf(peer.send(to, protocol, n));
      if (outcome.code) talk.failed.push(outcome);
      else talk.acknowledged[to].push(n);
      await breathe(50);
    }
  };
  const say = async () => {
    while (!talk.done) {
      await peer.publish(room, (talk.said += 1)).catch(() => {});
      await breathe(200);
    }
  };
  return Promise.all([
    peer.start(protocol, (from, n) => void talk.told[from].push(n)),
    peer.subscribe(room, (from, n) => void talk.heard[from].push(n), (id, joined) => void (joined || talk.left.push(id))),
  ]).then(() => void (talk.ended = Promise.all([say(), ...others.map(tell)])));
}

/** How far it is, for a failure. */
function standing() {
  const of = (lists, read) => Object.fromEntries(Object.entries(lists).map(([id, all]) => [id, read(all)]));
  const { acknowledged, told, heard, failed, said, left } = talk;
  const counts = [of(acknowledged, (all) => all.length), of(told, (all) => all.length), of(heard, (all) => all.at(-1) ?? null)];
  return JSON.stringify({ counts, failed: failed.slice(-5), said, left });
}

/** Waits until the page has had so many more acknowledgements from each of the others, and has heard new words of each. */
async function goesOn(pages, count) {
  const said = new Map();
  for (const page of pages) said.set(page.peerID, await page.attempt(() => talk.said));
  await Promise.all(
    pages.map(async (page) => {
      const before = await page.attempt(() => Object.fromEntries(Object.entries(talk.acknowledged).map(([id, all]) => [id, all.length])));
      const wanted = { before, count, said: Object.fromEntries(said) };
      const reached = (_, { before, count, said }) =>
        Object.keys(before).every((id) => talk.acknowledged[id].length >= before[id] + count && talk.heard[id].at(-1) > said[id]);
      await page.until(reached, wanted, MINUTE).catch(async (error) => {
        throw new Error(`of ${JSON.stringify(wanted)} this came: ${await page.attempt(standing)}`, { cause: error });
      });
    }),
  );
}

describe('three pages and a relay that dies', { timeout: 5 * MINUTE }, () => {
  let stage;
  let pages;
  before(async () => {
    stage = await Stage.open();
    pages = await Promise.all([1, 2, 3].map(() => stage.peer({ relays: [stage.relay.address('ws')] })));
  });
  after(() => stage?.close());

  test('no acknowledged message is lost, none comes twice, and the topic goes on', async (t) => {
    const ids = pages.map((page) => page.peerID);
    const argument = (page) => ({ others: ids.filter((id) => id !== page.peerID), room: ROOM, protocol: PRIVATE });
    await Promise.all(pages.map((page) => page.attempt(converse, argument(page))));
    await goesOn(pages, 20);
    await stage.relay.kill();
    await stage.relay.restart();
    await goesOn(pages, 40);
    const all = await Promise.all(
      pages.map((page) =>
        page.attempt(async () => {
          talk.done = true;
          await talk.ended;
          return { ...talk, ended: undefined };
        }),
      ),
    );
    for (const [at, one] of all.entries()) {
      for (const [other, id] of ids.entries()) {
        if (other === at) continue;
        const sent = all[other].acknowledged[ids[at]];
        const told = one.told[id];
        assert.ok(told.every((n, i) => i === 0 || told[i - 1] < n), 'out of order or twice');
        const came = new Set(told);
        assert.deepEqual(sent.filter((n) => !came.has(n)), [], 'acknowledged and lost');
        const heard = one.heard[id];
        assert.equal(new Set(heard).size, heard.length, 'heard twice');
        t.diagnostic(`${sent.length} acknowledged, ${told.length} told, ${heard.length} of ${all[other].said} heard`);
      }
      // The relay was away for less than the attempts and the grace last.
      assert.deepEqual([one.failed, one.left], [[], []]);
    }
    for (const page of pages) assert.deepEqual(page.problems, []);
  });
});

describe('a tab that is away', { timeout: 5 * MINUTE }, () => {
  let stage;
  let a;
  let b;
  before(async () => {
    stage = await Stage.open();
    [a, b] = await Promise.all([1, 2].map(() => stage.peer({ relays: [stage.relay.address('ws')] })));
    await Promise.all([a, b].map((page) => page.attempt(listen, [PRIVATE, ROOM])));
  });
  after(() => stage?.close());

  function listen(peer, [protocol, room]) {
    globalThis.told = [];
    globalThis.heard = [];
    return Promise.all([peer.start(protocol, (from, n) => void told.push(n)), peer.subscribe(room, (from, n) => void heard.push(n))]);
  }

  /** Begins to send; `sent` becomes what comes of it. */
  const send = (from, to, n) =>
    from.attempt((peer, [to, protocol, n]) => {
      globalThis.sent = undefined;
      failureOf(peer.send(to, protocol, n)).then((outcome) => (globalThis.sent = outcome));
    }, [to.peerID, PRIVATE, n]);

  async function arrives(from, to, n) {
    await from.until(() => globalThis.sent !== undefined);
    assert.equal(await from.attempt(() => sent), 'no failure');
    assert.deepEqual(await to.attempt(() => told.splice(0)), [n]);
  }

  /** What one says in the room from now on reaches the other. */
  const hears = (from, to, text) =>
    Promise.all([
      from.attempt(async (peer, [room, text]) => {
        globalThis.saying = text;
        while (globalThis.saying === text) {
          await peer.publish(room, text);
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
      }, [ROOM, text]),
      to.until((_, text) => heard.includes(text), text).finally(() => from.attempt(() => void (globalThis.saying = undefined))),
    ]);

  test('standing still: what is sent to it waits, and comes once', async () => {
    await send(a, b, 0);
    await arrives(a, b, 0);
    // Its scripts stop at the next line they would run. (Chromium does not freeze a page that it takes for visible,
    // as all pages are that Playwright opens.)
    const session = await b.page.context().newCDPSession(b.page);
    await session.send('Debugger.enable');
    const stopped = new Promise((resolve) => session.once('Debugger.paused', resolve));
    await session.send('Debugger.pause');
    await send(a, b, 1);
    await stopped;
    await new Promise((resolve) => setTimeout(resolve, 2000));
    assert.equal(await a.attempt(() => globalThis.sent), undefined, 'it waits');
    await session.send('Debugger.resume');
    await session.detach();
    await arrives(a, b, 1);
    await hears(a, b, 'after the pause');
    await hears(b, a, 'yes');
    await b.works();
  });

  test('offline: what it sends waits, and comes once', async () => {
    const context = a.page.context();
    await context.setOffline(true);
    // Chromium leaves WebSockets alone when it plays offline, so the relay goes, too.
    await stage.relay.kill();
    for (const page of [a, b]) await page.until(async (peer) => (await peer.status()).connected === false);
    await send(a, b, 2);
    await stage.relay.restart();
    await context.setOffline(false);
    await arrives(a, b, 2);
    await hears(a, b, 'online again');
    await hears(b, a, 'and I');
    await a.works();
  });

  test('left and come back to: the same peer, and at once', async () => {
    await b.page.goto(new URL('/pkg/package.json', stage.origin).href);
    // What is sent to a page that is not there fails or waits; it is not said to have arrived.
    await send(a, b, 3);
    await b.page.goBack();
    const before = b.peerID;
    if (!(await b.attempt(() => 'peer' in globalThis))) {
      await b.connect({ relays: [stage.relay.address('ws')] });
      await b.attempt(listen, [PRIVATE, ROOM]);
    }
    assert.equal(b.peerID, before);
    await a.until(() => globalThis.sent !== undefined);
    const outcome = await a.attempt(() => sent);
    const told = await b.attempt(() => globalThis.told.splice(0));
    if (outcome === 'no failure') assert.deepEqual(told, [3]);
    await send(a, b, 4);
    await arrives(a, b, 4);
    await hears(a, b, 'welcome back');
    await b.works();
    assert.deepEqual([a.problems, b.problems], [[], []]);
  });
});
