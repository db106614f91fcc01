// Where content comes from: dialled peers, the relay's store and gateway, providers of the DHT, gateways
// that lie, strategies.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { PeerPage } from './browser.mjs';
import { Stage, failsWith, serve, serveFolder } from './harness.mjs';

const SIZE = 3_000_000;
const NOBODY = '12D3KooWQQK7pGPaTxZn2gtfxoVTyfJ8T4YQmgzTT5jKYpBdV7op';
const ABSENT = 'bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy';

describe('sources', { timeout: 240_000 }, () => {
  let stage;
  let relays;
  let content;
  let cid;
  before(async () => {
    stage = await Stage.open();
    relays = [stage.relay.address('ws')];
    content = await stage.relayed('noise.bin', SIZE, 21);
    cid = content.cid;
  });
  after(() => stage?.close());

  test('dial: who is there, and why not', () =>
    stage.visitor({ relays: [] }, async (peer) => {
      const dial = (address) => peer.attempt((peer, address) => peer.dial(address), address);
      for (const transport of ['ws', 'webtransport']) {
        assert.equal(await dial(stage.relay.address(transport)), stage.relay.peerId, transport);
      }
      // Dialled like this, it is a source as any other peer.
      await peer.receives(cid, content);
      for (const address of ['nonsense', '', '/ip4/127.0.0.1/tcp/4001', 'https://relay.example']) {
        await assert.rejects(dial(address), failsWith('INVALID_ADDRESS'), address);
      }
      await assert.rejects(dial(`/ip4/127.0.0.1/tcp/9/ws/p2p/${NOBODY}`), failsWith('PEER_UNREACHABLE'));
      await assert.rejects(dial(stage.relay.address('ws').replace(stage.relay.peerId, NOBODY)), failsWith('PEER_UNREACHABLE'));
      await assert.rejects(peer.attempt((peer) => peer.dial(7)), failsWith('BAD_ARGUMENT'));
    }));

  test('what only the relay has is found by Bitswap, without naming anybody', () =>
    stage.visitor({ relays }, async (peer) => {
      await peer.receives(cid, content);
    }));

  test('only here: not found, and it says so', () =>
    stage.visitor({ relays }, async (peer) => {
      await assert.rejects(peer.get(cid, undefined, { sources: ['local'] }), (error) => {
        return failsWith('NOT_FOUND')(error) && error.message.includes(cid);
      });
      await assert.rejects(peer.get(ABSENT, undefined, { timeout: 20_000 }), failsWith('NOT_FOUND'));
    }));

  test("the relay's HTTP gateway, from a page of another origin", async () => {
    const other = await serveFolder(stage.site);
    const peer = await stage.peer({ relays: [stage.relay.http] }, undefined, other.origin);
    const asked = [];
    peer.page.on('request', (request) => asked.push(request.url()));
    await peer.receives(cid, content, undefined, { sources: ['relay'] });
    assert.ok(asked.some((url) => url.startsWith(`${stage.relay.http}/ipfs/${cid}`)), asked.join(' '));
    await peer.leave();
    await other.close();
  });

  describe('a gateway that lies', () => {
    const servers = [];
    after(() => Promise.all(servers.map((server) => server.close())));

    /** A gateway of one's own, answering as `handle` does. */
    async function gateway(handle) {
      const server = await serve((request, response) => {
        response.setHeader('access-control-allow-origin', '*');
        response.setHeader('access-control-allow-headers', '*');
        if (request.method === 'OPTIONS') response.writeHead(204).end();
        else handle(request, response);
      });
      servers.push(server);
      return server.origin;
    }

    const raw = { 'content-type': 'application/vnd.ipld.raw' };
    const car = { 'content-type': 'application/vnd.ipld.car; version=1' };
    const lies = {
      'wrong bytes': (_, response) => response.writeHead(200, raw).end(Buffer.alloc(1000, 7)),
      'a CAR of nonsense': (_, response) => response.writeHead(200, car).end(Buffer.alloc(1000, 7)),
      HTML: (_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<h1>please log in</h1>'),
      'a redirect in a circle': (request, response) => response.writeHead(302, { location: request.url }).end(),
      'an error': (_, response) => response.writeHead(500).end('no'),
      'an end in the middle': (_, response) => {
        response.writeHead(200, { ...raw, 'content-length': '100000' });
        response.write(Buffer.alloc(10), () => response.destroy());
      },
    };
    /** One page for all of them, each with content of its own. */
    let peer;
    let seed = 100;
    before(async () => {
      peer = await stage.peer({ relays: [] });
    });
    const sought = () => stage.relayed('sought.bin', 300_000, seed++);
    async function asking(gateways) {
      await peer.attempt((peer) => peer.close());
      await peer.connect({ relays: [], gateways });
    }

    for (const [name, lie] of Object.entries(lies)) {
      test(`${name}: NOT_FOUND with the reason, and an honest one is asked as well`, async () => {
        const content = await sought();
        const { cid } = content;
        const liar = await gateway(lie);
        await asking([liar]);
        await assert.rejects(peer.get(cid, undefined, { timeout: 20_000 }), (error) => {
          failsWith('NOT_FOUND', 'WRONG_CONTENT')(error);
          assert.ok(error.message.includes(liar), error.message);
          return true;
        });
        assert.equal(await peer.has(cid), false);
        await asking([liar, stage.relay.http]);
        await peer.receives(cid, content);
      });
    }

    test('one that stalls: the time given is kept, and an honest one is asked as well', async () => {
      const content = await sought();
      const { cid } = content;
      const liar = await gateway((_, response) => {
        response.writeHead(200, raw);
        response.write(Buffer.alloc(10));
      });
      await asking([liar]);
      await assert.rejects(peer.get(cid, undefined, { timeout: 1500 }), failsWith('TIMEOUT'));
      await asking([liar, stage.relay.http]);
      await peer.receives(cid, content);
      await peer.works();
    });
  });

  test('cancelling ends what a read waits for', async () => {
    // It has the root and the first leaf; for the others it keeps the page waiting.
    const passed = [];
    let waiting = 0;
    const server = await serve(async (request, response) => {
      response.setHeader('access-control-allow-origin', '*');
      if (!request.url.includes('format=raw')) return response.writeHead(406).end();
      if (passed.length < 2) {
        passed.push(request.url);
        const { status, headers, body } = await globalThis.fetch(stage.relay.http + request.url);
        response.writeHead(status, { 'content-type': headers.get('content-type') });
        for await (const piece of body) response.write(piece);
        return response.end();
      }
      waiting += 1;
      response.on('close', () => (waiting -= 1));
    });
    await stage.visitor({ relays: [], gateways: [server.origin] }, async (peer) => {
      const first = await peer.attempt(async (peer, cid) => {
        const file = await peer.getFile(cid, undefined, { stream: true });
        globalThis.reader = file.stream().getReader();
        const { value } = await reader.read();
        globalThis.second = reader.read();
        return value.length;
      }, cid);
      assert.ok(first > 0);
      const seen = async (count) => {
        const deadline = Date.now() + 10_000;
        while (count(waiting) === false && Date.now() < deadline) await peer.works();
        return waiting;
      };
      assert.ok((await seen((count) => count > 0)) > 0, 'nothing was asked for');
      assert.equal(await peer.attempt(async () => (await reader.cancel(), (await second).done)), true);
      assert.equal(await seen((count) => count === 0), 0, 'it still waits');
    });
    await server.close();
  });

  test('what one peer provides, another finds through the DHT', () =>
    stage.visitor({ relays }, async (a) => {
      const own = await stage.noise('provided.bin', SIZE, 33);
      const { 'provided.bin': stored } = await a.storeFiles({ 'provided.bin': own.file });
      await a.attempt((peer, cid) => peer.provide(cid), stored.fileCid);
      await assert.rejects(a.attempt((peer, cid) => peer.provide(cid), cid), failsWith('NOT_FOUND'));
      await stage.visitor({ relays }, async (b) => {
        await b.receives(stored.fileCid, own, undefined, { sources: ['network'], timeout: 30_000 });
      });
    }));

  test('every strategy by its name', () =>
    stage.visitor({ relays: [] }, async (peer) => {
      for (const [at, strategy] of ['performance', 'trust', 'privacy-first', 'cost'].entries()) {
        const content = await stage.relayed(`${strategy}.bin`, 400_000, 200 + at);
        await peer.attempt((peer) => peer.close());
        await peer.connect({ relays, strategy });
        await peer.attempt((peer, relay) => peer.setTrust(relay, 10), stage.relay.peerId);
        await peer.receives(content.cid, content);
      }
    }));

  test('a strategy of the page itself is told what is measured, and may throw', () =>
    stage.visitor({ relays: [] }, async (peer) => {
      const seen = await peer.attempt(
        async (old, { relays, cid, relay }) => {
          await old.close();
          const { connect } = await import('tabpeer');
          const inputs = [];
          globalThis.peer = await connect({
            relays,
            strategy(input) {
              inputs.push(input);
              throw new Error('a strategy that throws');
            },
          });
          globalThis.peer.setTrust(relay, 7);
          const found = await globalThis.peer.getFile(cid);
          return { sha256: await sha256(found.bytes), input: inputs.find((input) => input.peer === relay && input.trust === 7) };
        },
        { relays, cid, relay: stage.relay.peerId },
      );
      assert.equal(seen.sha256, content.sha256);
      const { peer: id, direct, hasIPFS, success, trust } = seen.input ?? {};
      assert.deepEqual({ id, direct, hasIPFS, trust }, { id: stage.relay.peerId, direct: true, hasIPFS: true, trust: 7 });
      assert.ok(success >= 0 && success <= 1);
    }));

  test('bad options are named', async () => {
    const nobody = await PeerPage.load(await stage.browser.newContext(), stage.origin);
    const bad = [
      { strategy: 'fastest' },
      { strategy: 7 },
      { sources: ['everywhere'] },
      { sources: 'local' },
      { gateways: 'http://127.0.0.1' },
      { gateways: Array(17).fill('http://127.0.0.1') },
      { routers: [7] },
    ];
    for (const options of bad) {
      await assert.rejects(nobody.connect({ relays: [], ...options }), failsWith('BAD_ARGUMENT'), JSON.stringify(options));
    }
    await assert.rejects(nobody.connect({ relays: [], gateways: ['ftp://127.0.0.1'] }), failsWith('INVALID_ADDRESS'));
    await nobody.leave();
    await stage.visitor({ relays: [] }, async (peer) => {
      const calls = [{ sources: ['nowhere'] }, { ttl: 5 }, { ttl: 0.5 }, { requesterId: 'me' }, { timeout: -1 }, { onProgress: 'yes' }];
      for (const options of calls) {
        await assert.rejects(peer.attempt((peer, { cid, options }) => peer.getFile(cid, undefined, options), { cid, options }), failsWith('BAD_ARGUMENT'), JSON.stringify(options));
      }
      for (const trust of [-1, 11, 'much', null]) {
        await assert.rejects(peer.attempt((peer, trust) => peer.setTrust(peer.peerID, trust), trust), failsWith('BAD_ARGUMENT'));
      }
      const { fileCid } = await peer.attempt((peer) => peer.storeFile('a', 'text'));
      for (const range of [{ start: 2, end: 1 }, { start: -1 }, { start: 0.5 }, 'all']) {
        await assert.rejects(
          peer.attempt(async (peer, { fileCid, range }) => (await peer.getFile(fileCid, undefined, { stream: true })).bytes(range), { fileCid, range }),
          failsWith('BAD_ARGUMENT'),
          JSON.stringify(range),
        );
      }
      await peer.works();
    });
  });
});
