// Direct messages between pages: in order, acknowledged, refused by name, and through a relay that is killed.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Stage, failsWith } from './harness.mjs';

const MINUTE = 60_000;
const CHAT = 'chat/1';
const NOBODY = '12D3KooWQQK7pGPaTxZn2gtfxoVTyfJ8T4YQmgzTT5jKYpBdV7op';
/** Of a message, as in src/messaging/direct. */
const MAX_VALUE = 1 << 20;
const MAX_QUEUED = 1024;

let stage;
before(async () => {
  stage = await Stage.open();
});
after(() => stage?.close());

/** So many peers that only the relay connects, and what becomes of them. */
async function among(count, work) {
  const peers = await Promise.all(Array.from({ length: count }, () => stage.peer()));
  await work(...peers);
  for (const peer of peers) assert.deepEqual(peer.problems, []);
  await Promise.all(peers.map((peer) => peer.leave()));
}

/** Starts `protocol` in a page, which keeps `[from, data]` of all that comes in `heard`. */
function listen(peer, protocol = CHAT) {
  return peer.attempt((peer, protocol) => {
    globalThis.heard ??= [];
    return peer.start(protocol, (from, data) => void heard.push([from, data]));
  }, protocol);
}

function heard(peer) {
  return peer.attempt(() => heard);
}

function send(peer, to, data, { protocol = CHAT, ...options } = {}) {
  return peer.attempt((peer, [to, protocol, data, options]) => peer.send(to, protocol, data, options), [to.peerID, protocol, data, options]);
}

describe('a conversation', { timeout: 2 * MINUTE }, () => {
  test('JSON and bytes, 200 each way at once, in order', () =>
    among(2, async (a, b) => {
      const COUNT = 200;
      const converse = async (page, { to, protocol, count }) => {
        const value = (n) => {
          if (n % 5 === 0) return new Uint8Array(n * 200).fill(n);
          if (n % 5 === 1) return [n, null, { text: 'ü\u0000\u2028"\\'.repeat(n) }];
          return n % 5 === 2 ? `text ${n}` : n / 3;
        };
        const text = (data) => (data instanceof Uint8Array ? `bytes ${data}` : JSON.stringify(data));
        const came = new Promise((resolve) => {
          const all = [];
          page.start(protocol, (from, data) => {
            all.push(from === to ? text(data) : from);
            if (all.length === count) resolve(all);
          });
        });
        const expected = Array.from({ length: count }, (_, n) => text(value(n)));
        globalThis.talk = async () => {
          await Promise.all(expected.map((_, n) => page.send(to, protocol, value(n))));
          const got = await came;
          return expected.findIndex((text, n) => text !== got[n]);
        };
      };
      const argument = (to) => ({ to: to.peerID, protocol: CHAT, count: COUNT });
      await Promise.all([a.attempt(converse, argument(b)), b.attempt(converse, argument(a))]);
      assert.deepEqual(await Promise.all([a.attempt(() => talk()), b.attempt(() => talk())]), [-1, -1]);
    }));

  test('each value comes as it was', () =>
    among(2, async (a, b) => {
      await listen(b);
      const values = [null, true, 0, -1.5e300, '', '\ud83d\ude00', [], {}, { a: [{ b: null }] }];
      for (const value of values) await send(a, b, value);
      const bytes = await a.attempt(async (peer, [to, protocol]) => {
        const buffer = Uint8Array.from([1, 2, 3, 255]).buffer;
        await peer.send(to, protocol, JSON.parse('{"__proto__":1}'));
        for (const data of [buffer, new Uint8Array(buffer, 1, 2), new DataView(buffer, 3), new Uint8Array()]) await peer.send(to, protocol, data);
        // What JSON makes of it is the page's affair; what changes after the call is not sent.
        const later = { date: new Date(0), left: undefined };
        const sent = peer.send(to, protocol, later);
        later.date = 'changed';
        await sent;
      }, [b.peerID, CHAT]);
      assert.equal(bytes, undefined);
      const got = await b.attempt(() => heard.map(([, data]) => (data instanceof Uint8Array ? `bytes ${data}` : JSON.stringify(data))));
      const expected = [...values.map((value) => JSON.stringify(value)), '{"__proto__":1}', 'bytes 1,2,3,255', 'bytes 2,3', 'bytes 255', 'bytes '];
      assert.deepEqual(got, [...expected, '{"date":"1970-01-01T00:00:00.000Z"}']);
    }));

  test('the largest message, in JSON and in bytes', () =>
    among(2, async (a, b) => {
      await listen(b);
      const largest = (peer, [to, protocol, len]) => Promise.all([peer.send(to, protocol, 'x'.repeat(len - 2)), peer.send(to, protocol, new Uint8Array(len).fill(7))]);
      await a.attempt(largest, [b.peerID, CHAT, MAX_VALUE]);
      assert.deepEqual(await b.attempt(() => heard.map(([, data]) => data.length)), [MAX_VALUE - 2, MAX_VALUE]);
    }));

  test("p2p-webapp's form: answers from within onData, and a function that is told of the acknowledgement", () =>
    among(2, async (a, b) => {
      await b.attempt((peer, protocol) => peer.start(protocol, async (from, data) => peer.send(from, protocol, { ...data, pong: true })), CHAT);
      await listen(a);
      await a.attempt(async (peer, [to, protocol]) => {
        globalThis.acks = [];
        for (let n = 0; n < 5; n += 1) peer.send(to, protocol, { n }, () => void acks.push(n));
      }, [b.peerID, CHAT]);
      await a.until(() => heard.length === 5 && acks.length === 5);
      const pongs = [0, 1, 2, 3, 4].map((n) => [b.peerID, { n, pong: true }]);
      assert.deepEqual([await heard(a), await a.attempt(() => acks)], [pongs, [0, 1, 2, 3, 4]]);
    }));
});

describe('what goes wrong has a name', { timeout: 3 * MINUTE }, () => {
  test('what cannot be sent', () =>
    among(2, async (a, b) => {
      await listen(b);
      // As text: most of it is nothing that JSON could bring into the page.
      const failure = (expression) => a.attempt(`async (peer) => failureOf((async () => ${expression})())`);
      const to = `'${b.peerID}', '${CHAT}'`;
      const deep = (depth) => `JSON.parse('${'['.repeat(depth)}${']'.repeat(depth)}')`;
      const refused = {
        [`peer.send(${to}, () => 1)`]: 'BAD_ARGUMENT',
        [`peer.send(${to}, undefined)`]: 'BAD_ARGUMENT',
        [`peer.send(${to}, Symbol('x'))`]: 'BAD_ARGUMENT',
        [`peer.send(${to}, 10n)`]: 'BAD_ARGUMENT',
        [`peer.send(${to}, { deep: [10n] })`]: 'BAD_ARGUMENT',
        [`peer.send(${to}, (() => { const a = {}; a.a = a; return a; })())`]: 'BAD_ARGUMENT',
        [`peer.send(${to}, { toJSON() { throw new Error('no'); } })`]: 'BAD_ARGUMENT',
        [`peer.send(${to}, { toJSON() { throw null; } })`]: 'BAD_ARGUMENT',
        [`peer.send(${to}, new Blob(['text']))`]: 'BAD_ARGUMENT',
        [`peer.send(${to}, ${deep(128)})`]: 'BAD_ARGUMENT',
        [`peer.send(${to}, 1, 7)`]: 'BAD_ARGUMENT',
        [`peer.send(${to}, 1, { timeout: -1 })`]: 'BAD_ARGUMENT',
        [`peer.send(${to}, 1, { signal: 'now' })`]: 'BAD_ARGUMENT',
        [`peer.send(${to}, 'x'.repeat(${MAX_VALUE} - 1))`]: 'TOO_LARGE',
        [`peer.send(${to}, 'ü'.repeat(${MAX_VALUE} / 2))`]: 'TOO_LARGE',
        [`peer.send(${to}, 'x'.repeat(1 << 28))`]: 'TOO_LARGE',
        [`peer.send(${to}, new Uint8Array(${MAX_VALUE} + 1))`]: 'TOO_LARGE',
        [`peer.send('nobody', '${CHAT}', 1)`]: 'INVALID_PEER_ID',
        [`peer.send(7, '${CHAT}', 1)`]: 'BAD_ARGUMENT',
        [`peer.send(peer.peerID, '${CHAT}', 1)`]: 'PEER_UNREACHABLE',
        'peer.start(7, () => {})': 'BAD_ARGUMENT',
        [`peer.start('${CHAT}', 'a function')`]: 'BAD_ARGUMENT',
        [`peer.start('${CHAT}')`]: 'BAD_ARGUMENT',
        'peer.stop(undefined)': 'BAD_ARGUMENT',
        "peer.start('p2p-webapp/1.0.0', () => {})": 'ALREADY_STARTED',
        [`peer.start('x', () => {}).then(() => peer.start('/x', () => {}))`]: 'ALREADY_STARTED',
        [`Promise.all(Array.from({ length: 33 }, (_, n) => peer.start('many/' + n, () => {})))`]: 'BUSY',
      };
      for (const name of ['', '/', 'a\\nb', 'x'.repeat(200), 'x'.repeat(100_000)]) {
        refused[`peer.start('${name}', () => {})`] = 'BAD_ARGUMENT';
        refused[`peer.send('${b.peerID}', '${name}', 1)`] = 'BAD_ARGUMENT';
      }
      for (const [call, code] of Object.entries(refused)) {
        const error = await failure(call);
        assert.ok(error.code !== undefined, `${call.slice(0, 100)}: ${JSON.stringify(error)}`);
        failsWith(code)(error);
      }
      // What is not started can be stopped, and none of it has come.
      await a.attempt((peer) => Promise.all([peer.stop('never started'), peer.stop('')]));
      await send(a, b, 'all well');
      assert.deepEqual(await heard(b), [[a.peerID, 'all well']]);
    }));

  test('nobody there, nobody listening, out of time, aborted', () =>
    among(2, async (a, b) => {
      const nobody = { peerID: NOBODY };
      await Promise.all([
        assert.rejects(send(a, nobody, 1), failsWith('PEER_UNREACHABLE')),
        assert.rejects(send(a, b, 1, { protocol: 'not/started' }), failsWith('UNSUPPORTED')),
        assert.rejects(send(a, b, 1, { protocol: 'late/1', timeout: 300 }), failsWith('TIMEOUT')),
      ]);
      const abort = (peer, [to, protocol]) => {
        const signal = AbortSignal.abort(new RangeError('changed my mind'));
        const controller = new AbortController();
        const sending = peer.send(to, protocol, 1, { signal: controller.signal });
        controller.abort(new RangeError('later'));
        return Promise.all([peer.send(to, protocol, 1, { signal }), sending].map(failureOf));
      };
      const aborted = await a.attempt(abort, [b.peerID, CHAT]);
      assert.deepEqual(aborted.map(({ name, message }) => `${name} ${message}`), ['RangeError changed my mind', 'RangeError later']);
      // Nothing that was given up comes afterwards.
      await listen(b);
      await listen(b, 'late/1');
      for (const protocol of [CHAT, 'late/1']) await send(a, b, protocol, { protocol });
      assert.deepEqual(await heard(b), [[a.peerID, CHAT], [a.peerID, 'late/1']]);
    }));

  test('stop and start again, in the order of the calls', () =>
    among(2, async (a, b) => {
      await b.attempt((peer, protocol) => {
        globalThis.heard = [];
        const listener = (name) => (from, data) => void heard.push(`${name} ${data}`);
        return Promise.all([
          peer.start(protocol, listener('first')),
          peer.stop(protocol),
          peer.start(protocol, listener('second')),
          peer.stop(protocol),
          peer.stop(protocol),
          peer.start(protocol, listener('third')),
        ]);
      }, CHAT);
      await send(a, b, 1);
      await b.attempt((peer, protocol) => peer.stop(protocol), CHAT);
      await assert.rejects(send(a, b, 2), failsWith('UNSUPPORTED'));
      assert.deepEqual(await heard(b), ['third 1']);
    }));

  test('an onData that throws or rejects is reported, and the next message comes', () =>
    among(2, async (a, b) => {
      const reports = [];
      b.page.on('console', (message) => message.type() === 'error' && reports.push(message.text()));
      await b.attempt((peer, protocol) => {
        globalThis.heard = [];
        return peer.start(protocol, (from, data) => {
          heard.push(data);
          if (data === 0) throw new Error('thrown');
          if (data === 1) return Promise.reject(new Error('rejected'));
          if (data === 2) return { then: (_, reject) => reject(new Error('a thenable')) };
          if (data === 3) throw undefined;
        });
      }, CHAT);
      for (let n = 0; n < 5; n += 1) await send(a, b, n);
      assert.deepEqual(await heard(b), [0, 1, 2, 3, 4]);
      await b.works();
      for (const what of ['thrown', 'rejected', 'a thenable', 'undefined']) {
        assert.ok(reports.some((text) => text.includes('tabpeer: onData threw') && text.includes(what)), `${what}: ${reports}`);
      }
      assert.equal(reports.length, 4);
    }));

  test('an async onData is awaited, for each peer by itself; one that never ends holds up that peer only', () =>
    among(3, async (a, b, c) => {
      await c.attempt((peer, [protocol, stuck]) => {
        globalThis.log = [];
        let busy = 0;
        return peer.start(protocol, async (from, data) => {
          if (from === stuck && data === 'stuck') await new Promise(() => {});
          busy += from === stuck ? 0 : 1;
          log.push(`begin ${data} ${busy}`);
          // A task of its own: another message would find its way in between.
          await new Promise((resolve) => setTimeout(resolve));
          log.push(`end ${data} ${busy}`);
          busy -= from === stuck ? 0 : 1;
        });
      }, [CHAT, a.peerID]);
      await send(a, c, 'stuck');
      const queued = a.attempt((peer, [to, protocol, count]) => {
        const sends = Array.from({ length: count }, (_, n) => failureOf(peer.send(to, protocol, n)));
        return Promise.all(sends).then((all) => all.map(({ code }) => code));
      }, [c.peerID, CHAT, MAX_QUEUED + 5]);
      await b.attempt((peer, [to, protocol]) => Promise.all(Array.from({ length: 50 }, (_, n) => peer.send(to, protocol, n))), [c.peerID, CHAT]);
      await c.until(() => log.length === 100);
      const expected = Array.from({ length: 50 }, (_, n) => [`begin ${n} 1`, `end ${n} 1`]);
      assert.deepEqual(await c.attempt(() => log), expected.flat());
      // Who waits for the stuck one is told: the queue is bounded, and so is the waiting.
      const codes = await queued;
      const count = (code) => codes.filter((one) => one === code).length;
      assert.deepEqual([count('UNACKNOWLEDGED'), count('BUSY')], [MAX_QUEUED, 5], codes.slice(0, 3));
      // Stopped and started again, that peer is heard as well.
      await c.attempt((peer, protocol) => peer.stop(protocol), CHAT);
      await listen(c);
      await send(a, c, 'again');
      assert.deepEqual(await heard(c), [[a.peerID, 'again']]);
    }));

  test('a tab that goes away in the middle', () =>
    among(1, async (a) => {
      const b = await stage.peer();
      await listen(b);
      await send(a, b, 'hello');
      const flood = a.attempt(async (peer, [to, protocol]) => {
        globalThis.acknowledged = 0;
        for (;;) {
          const burst = Array.from({ length: 20 }, () => peer.send(to, protocol, 'x'.repeat(10_000)).then(() => (acknowledged += 1)));
          const failed = (await Promise.all(burst.map(failureOf))).find((outcome) => outcome.code);
          if (failed) return failed;
        }
      }, [b.peerID, CHAT]);
      await a.until(() => globalThis.acknowledged > 100);
      await b.leave();
      failsWith('PEER_UNREACHABLE', 'UNACKNOWLEDGED')(await flood);
      // The next ones need not find that out again.
      await assert.rejects(send(a, b, 'anybody?'), failsWith('PEER_UNREACHABLE'));
      await a.works();
    }));

  test('close, while messages wait and callbacks run', () =>
    among(2, async (a, b) => {
      await b.attempt((peer, protocol) => peer.start(protocol, () => new Promise(() => {})), CHAT);
      const outcomes = await a.attempt(async (peer, [to, protocol]) => {
        await peer.send(to, protocol, 0);
        const waiting = [1, 2, 3].map((n) => failureOf(peer.send(to, protocol, n)));
        const closing = peer.close();
        const after = [peer.send(to, protocol, 4), peer.start('x', () => {})].map(failureOf);
        await closing;
        await peer.stop('x');
        return (await Promise.all([...waiting, ...after])).map(({ code }) => code);
      }, [b.peerID, CHAT]);
      assert.deepEqual(outcomes, Array(5).fill('CLOSED'));
      // From within a callback, and of the side that listens.
      await a.connect();
      await b.attempt(async (peer, protocol) => {
        await peer.stop(protocol);
        globalThis.closed = new Promise((resolve) => {
          peer.start(protocol, () => resolve(peer.close()));
        });
      }, CHAT);
      await a.attempt((peer, [to, protocol]) => failureOf(peer.send(to, protocol, 'the last')), [b.peerID, CHAT]);
      await b.attempt(() => closed);
    }));
  test('the object below the client is freed while calls are under way', () =>
    among(2, async (a, b) => {
      await listen(b);
      const outcome = await a.attempt(async (peer, [to, protocol]) => {
        await peer.close();
        const { open } = await import('/pkg/tabpeer.js');
        const raw = await open({});
        const started = new Promise((resolve) => {
          raw.start(protocol, (from, data) => resolve([from, data]));
        });
        const sent = raw.send(to, protocol, 'from nobody');
        raw.free();
        return { sent: await failureOf(sent), used: await failureOf((async () => raw.send(to, protocol, 1))()), started: (globalThis.started = started) && true };
      }, [b.peerID, CHAT]);
      assert.equal(outcome.sent, 'no failure');
      assert.notEqual(outcome.used, 'no failure');
      // What is started goes on: nobody has stopped it.
      await send(b, a, 'still there?');
      assert.deepEqual(await a.attempt(() => started), [b.peerID, 'still there?']);
    }));
});

describe('the relay is killed and restarted in the middle of a conversation', { timeout: 4 * MINUTE }, () => {
  /** Sends numbers for ever, several at a time; `talked.done` ends it. */
  function talk(peer, { to, protocol }) {
    const talked = { acknowledged: [], failed: [], heard: [], done: false };
    globalThis.talked = talked;
    return peer.start(protocol, (from, data) => void talked.heard.push(data)).then(() => {
      const lane = async () => {
        while (!talked.done) {
          const n = (talked.next = (talked.next ?? 0) + 1);
          const outcome = await failureOf(peer.send(to, protocol, n));
          if (outcome.code) talked.failed.push({ n, ...outcome });
          else talked.acknowledged.push(n);
          // The page breathes, and the relay has other things to do.
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      };
      talked.ended = Promise.all(Array.from({ length: 8 }, lane));
    });
  }

  const total = (pages, what, count) =>
    Promise.all(pages.map((page) => page.until((_, { what, count }) => talked[what].length >= count, { what, count }, 2 * MINUTE)));

  /** What the relay's death in between must not change. */
  async function conversation(t, outage) {
    await among(2, async (a, b) => {
      const pages = [a, b];
      await Promise.all([a.attempt(talk, { to: b.peerID, protocol: CHAT }), b.attempt(talk, { to: a.peerID, protocol: CHAT })]);
      await total(pages, 'acknowledged', 100);
      await stage.relay.kill();
      await outage(pages);
      await stage.relay.restart();
      const before = await Promise.all(pages.map((page) => page.attempt(() => talked.acknowledged.length)));
      await Promise.all(pages.map((page, at) => total([page], 'acknowledged', before[at] + 200)));
      await Promise.all(pages.map((page) => page.attempt(() => ((talked.done = true), talked.ended.then(() => {})))));
      const all = await Promise.all(pages.map((page) => page.attempt(() => ({ ...talked, ended: undefined }))));
      for (const [at, { acknowledged, failed }] of all.entries()) {
        const { heard } = all[1 - at];
        assert.ok(heard.every((n, i) => i === 0 || heard[i - 1] < n), 'out of order or twice');
        const came = new Set(heard);
        assert.deepEqual(acknowledged.filter((n) => !came.has(n)), [], 'acknowledged and lost');
        for (const error of failed) failsWith('PEER_UNREACHABLE', 'UNACKNOWLEDGED')(error);
        // While it is away for no longer than the attempts last, the pages need not even know.
        if (outage === brief) assert.deepEqual(failed, []);
        t.diagnostic(`${acknowledged.length} acknowledged, ${failed.length} failed, ${heard.length} heard`);
      }
    });
  }

  const brief = async () => {};
  test('at once', (t) => conversation(t, brief));

  test('after sends have failed on both sides', (t) => conversation(t, (pages) => total(pages, 'failed', 1)));
});
