// Where content comes from: dialled peers, the relay's store and gateway, providers of the DHT, gateways
// that lie, strategies.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { PeerPage } from './browser.mjs';
import { noiseFile, sha256 } from './fixtures.mjs';
import { Stage, failsWith, serveFolder } from './harness.mjs';

const SIZE = 3_000_000;
const NOBODY = '12D3KooWQQK7pGPaTxZn2gtfxoVTyfJ8T4YQmgzTT5jKYpBdV7op';
const ABSENT = 'bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy';
const profile = 'unixfs-v1-2025';

describe('sources', { timeout: 240_000 }, () => {
  let stage;
  let relays;
  let file;
  let digest;
  let cid;
  before(async () => {
    stage = await Stage.open();
    relays = [stage.relay.address('ws')];
    file = await noiseFile(stage.folder, 'noise.bin', SIZE, 21);
    digest = await sha256(file);
    cid = await stage.relay.add(file, { profile });
  });
  after(() => stage?.close());

  async function visitor(options, work) {
    const peer = await stage.peer(options);
    try {
      await work(peer);
      assert.deepEqual(peer.problems, []);
    } finally {
      await peer.page.context().close();
    }
  }

  test('dial: who is there, and why not', () =>
    visitor({ relays: [] }, async (peer) => {
      const dial = (address) => peer.attempt((peer, address) => peer.dial(address), address);
      for (const transport of ['ws', 'webtransport']) {
        assert.equal(await dial(stage.relay.address(transport)), stage.relay.peerId, transport);
      }
      // Dialled like this, it is a source as any other peer.
      assert.equal((await peer.get(cid)).sha256, digest);
      for (const address of ['nonsense', '', '/ip4/127.0.0.1/tcp/4001', 'https://relay.example']) {
        await assert.rejects(dial(address), failsWith('INVALID_ADDRESS'), address);
      }
      await assert.rejects(dial(`/ip4/127.0.0.1/tcp/9/ws/p2p/${NOBODY}`), failsWith('PEER_UNREACHABLE'));
      await assert.rejects(dial(stage.relay.address('ws').replace(stage.relay.peerId, NOBODY)), failsWith('PEER_UNREACHABLE'));
      await assert.rejects(peer.attempt((peer) => peer.dial(7)), failsWith('BAD_ARGUMENT'));
    }));

  test('what only the relay has is found by Bitswap, without naming anybody', () =>
    visitor({ relays }, async (peer) => {
      assert.equal((await peer.get(cid)).sha256, digest);
    }));

  test('only here: not found, and it says so', () =>
    visitor({ relays }, async (peer) => {
      await assert.rejects(peer.get(cid, undefined, { sources: ['local'] }), (error) => {
        return failsWith('NOT_FOUND')(error) && error.message.includes(cid);
      });
      await assert.rejects(peer.get(ABSENT, undefined, { timeout: 20_000 }), failsWith('NOT_FOUND'));
    }));

  test("the relay's HTTP gateway, from a page of another origin", async () => {
    const other = await serveFolder(stage.site);
    const context = await stage.browser.newContext();
    const peer = await PeerPage.open(context, other.origin, { relays: [stage.relay.http] });
    const asked = [];
    peer.page.on('request', (request) => asked.push(request.url()));
    const found = await peer.get(cid, undefined, { sources: ['relay'] });
    assert.equal(found.sha256, digest);
    assert.ok(asked.some((url) => url.startsWith(`${stage.relay.http}/ipfs/${cid}`)), asked.join(' '));
    await context.close();
    await other.close();
  });

  describe('a gateway that lies', () => {
    const servers = [];
    after(() => Promise.all(servers.map((server) => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    })));

    /** A gateway of one's own, answering as `handle` does. */
    async function gateway(handle) {
      const server = createServer((request, response) => {
        response.setHeader('access-control-allow-origin', '*');
        response.setHeader('access-control-allow-headers', '*');
        if (request.method === 'OPTIONS') response.writeHead(204).end();
        else handle(request, response);
      });
      await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
      servers.push(server);
      return `http://127.0.0.1:${server.address().port}`;
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
    async function content() {
      const file = await noiseFile(stage.folder, 'sought.bin', 300_000, seed++);
      return { cid: await stage.relay.add(file, { profile }), digest: await sha256(file) };
    }
    async function asking(gateways) {
      await peer.attempt((peer) => peer.close());
      await peer.connect({ relays: [], gateways });
    }

    for (const [name, lie] of Object.entries(lies)) {
      test(`${name}: NOT_FOUND with the reason, and an honest one is asked as well`, async () => {
        const { cid, digest } = await content();
        const liar = await gateway(lie);
        await asking([liar]);
        await assert.rejects(peer.get(cid, undefined, { timeout: 20_000 }), (error) => {
          failsWith('NOT_FOUND', 'WRONG_CONTENT')(error);
          assert.ok(error.message.includes(liar), error.message);
          return true;
        });
        assert.equal(await peer.attempt((peer, cid) => peer.hasFile(cid), cid), false);
        await asking([liar, stage.relay.http]);
        assert.equal((await peer.get(cid)).sha256, digest);
      });
    }

    test('one that stalls: the time given is kept, and an honest one is asked as well', async () => {
      const { cid, digest } = await content();
      const liar = await gateway((_, response) => {
        response.writeHead(200, raw);
        response.write(Buffer.alloc(10));
      });
      await asking([liar]);
      await assert.rejects(peer.get(cid, undefined, { timeout: 1500 }), failsWith('TIMEOUT'));
      await asking([liar, stage.relay.http]);
      assert.equal((await peer.get(cid)).sha256, digest);
      await peer.works();
    });
  });

  test('what one peer provides, another finds through the DHT', () =>
    visitor({ relays }, async (a) => {
      const own = await noiseFile(stage.folder, 'provided.bin', SIZE, 33);
      const { 'provided.bin': stored } = await a.storeFiles({ 'provided.bin': own });
      await a.attempt((peer, cid) => peer.provide(cid), stored.fileCid);
      await assert.rejects(a.attempt((peer, cid) => peer.provide(cid), cid), failsWith('NOT_FOUND'));
      await visitor({ relays }, async (b) => {
        const found = await b.get(stored.fileCid, undefined, { sources: ['network'], timeout: 30_000 });
        assert.equal(found.sha256, await sha256(own));
      });
    }));

  test('every strategy by its name', () =>
    visitor({ relays: [] }, async (peer) => {
      for (const [at, strategy] of ['performance', 'trust', 'privacy-first', 'cost'].entries()) {
        const file = await noiseFile(stage.folder, `${strategy}.bin`, 400_000, 200 + at);
        const cid = await stage.relay.add(file, { profile });
        await peer.attempt((peer) => peer.close());
        await peer.connect({ relays, strategy });
        await peer.attempt((peer, relay) => peer.setTrust(relay, 10), stage.relay.peerId);
        assert.equal((await peer.get(cid)).sha256, await sha256(file), strategy);
      }
    }));

  test('a strategy of the page itself is told what is measured, and may throw', () =>
    visitor({ relays: [] }, async (peer) => {
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
      assert.equal(seen.sha256, digest);
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
    await nobody.page.context().close();
    await visitor({ relays: [] }, async (peer) => {
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
