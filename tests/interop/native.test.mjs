// The native peer, tabpeer-relay. As provider: `tabpeer-relay add`, and Kubo and Helia fetch over each transport that
// they have. As one that fetches: its gateway, told to ask the connected peers. A 1-byte file is the same for all of
// them, so each test starts peers of its own.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { CID } from 'multiformats/cid';
import { launch } from '../e2e/browser.mjs';
import { sha256 } from '../e2e/fixtures.mjs';
import { Relay } from '../e2e/relay.mjs';
import { Content, LARGE, MIB, cases, fetchesTheSame, folderEntries } from './content.mjs';
import { HeliaSite } from './helia-page.mjs';
import { RealPeer } from './real-peer.mjs';

const MINUTE = 60_000;

describe('tabpeer-relay provides', { timeout: 8 * MINUTE }, () => {
  let content;
  let relay;
  before(async () => {
    content = await Content.make();
    relay = await Relay.start({ site: content.folder });
  });
  after(() => Promise.all([relay?.stop(), content?.remove()]));

  /** Runs `body` with a real peer that has dialled the relay. */
  async function connected(kind, transport, body) {
    const [peer] = await RealPeer.startAll(kind);
    try {
      await peer.dial(relay.address(transport));
      await body(peer);
    } finally {
      await peer.stop();
    }
  }

  // Not Kubo over WebTransport, where it would prefer QUIC anyway: it opens a stream and writes to it only later, and
  // until then the relay's wtransport (0.7) takes no other stream of that connection.
  for (const [kind, transports] of [['kubo', ['tcp', 'ws', 'quic']], ['helia', ['tcp', 'ws']]]) {
    for (const transport of transports) {
      test(`small files to ${kind} over ${transport}`, () =>
        connected(kind, transport, async (peer) => {
          for (const { size, profile, seed } of cases(2)) {
            const file = await content.file(size, seed);
            await fetchesTheSame(peer, content, await relay.add(file, { profile }), file);
          }
        }));
    }
  }

  for (const [kind, transport] of [['kubo', 'tcp'], ['helia', 'ws']]) {
    test(`100 MiB to ${kind} over ${transport}`, () =>
      connected(kind, transport, async (peer) => {
        const file = await content.file(LARGE);
        await fetchesTheSame(peer, content, await relay.add(file, { profile: 'unixfs-v1-2025' }), file);
      }));

    test(`a sharded directory to ${kind} over ${transport}`, () =>
      connected(kind, transport, async (peer) => {
        const folder = await content.shardedFolder(kind);
        await fetchesTheSame(peer, content, await relay.add(folder, { profile: 'unixfs-v0-2015' }), folder);
      }));
  }

  test('it imports to the same CIDs as Kubo', async () => {
    const [kubo] = await RealPeer.startAll('kubo');
    try {
      const folder = await content.shardedFolder('cid');
      const profile = 'unixfs-v0-2015';
      assert.equal(await relay.add(folder, { profile }), await kubo.add(folder, { profile }));
      for (const { size, profile } of cases(3)) {
        const file = await content.file(size, 3);
        assert.equal(await relay.add(file, { profile }), await kubo.add(file, { profile }), `${size} bytes as ${profile}`);
      }
    } finally {
      await kubo.stop();
    }
  });

  test('to Helia in Chromium over ws', async () => {
    const browser = await launch();
    const site = await HeliaSite.open();
    try {
      const page = await site.peer(browser);
      await page.dial(relay.address('ws'));
      for (const { size, profile } of [...cases(4), { size: 10 * MIB, profile: 'unixfs-v1-2025' }]) {
        const file = await content.file(size, 4);
        const found = await page.fetch(await relay.add(file, { profile }));
        assert.deepEqual(found, { size, sha256: await sha256(file) });
      }
      const folder = await content.shardedFolder('page');
      const found = await page.fetch(await relay.add(folder, { profile: 'unixfs-v0-2015' }));
      assert.deepEqual(found.entries, await folderEntries(folder));
    } finally {
      await browser.close();
      await site.close();
    }
  });

  // The blocks of a file of whole chunks are those of its pieces: each peer has a piece, Kubo also what joins them.
  test('a file spread over the relay, Kubo and Helia', async () => {
    const [kubo, helia, asking] = await RealPeer.startAll('kubo', 'helia', 'kubo');
    try {
      const profile = 'unixfs-v1-2025';
      const { whole, pieces } = await content.inPieces(3, 4 * MIB);
      await relay.add(pieces[0], { profile });
      await helia.add(pieces[1], { profile });
      await kubo.add(pieces[2], { profile });
      const cid = await kubo.add(whole, { profile, leaves: false });
      for (const address of [relay.address('tcp'), helia.address('tcp'), kubo.address('tcp')]) await asking.dial(address);
      await fetchesTheSame(asking, content, cid, whole);
    } finally {
      await Promise.all([kubo, helia, asking].map((peer) => peer.stop()));
    }
  });
});

describe('tabpeer-relay gets', { timeout: 4 * MINUTE }, () => {
  let content;
  let relay;
  before(async () => {
    content = await Content.make();
    relay = await Relay.start({ site: content.folder, settings: '[gateway]\nfetch_from_peers = true\n' });
  });
  after(() => Promise.all([relay?.stop(), content?.remove()]));

  async function gateway(cid, format) {
    const response = await fetch(`${relay.http}/ipfs/${cid}?format=${format}`);
    assert.equal(response.status, 200, `${cid} as ${format}`);
    return new Uint8Array(await response.arrayBuffer());
  }

  for (const [kind, transports] of [['kubo', ['tcp', 'ws', 'quic']], ['helia', ['tcp', 'ws']]]) {
    for (const transport of transports) {
      test(`what ${kind} has, over ${transport}`, async () => {
        const [peer] = await RealPeer.startAll(kind);
        try {
          await peer.dial(relay.address(transport));
          const seed = 20 + transport.length + kind.length;
          const [small, large, old] = await Promise.all([
            content.file(1000, seed),
            content.file(32 * MIB, seed),
            content.file(2 * MIB + 5, seed),
          ]);
          const profile = 'unixfs-v1-2025';
          const block = await gateway(await peer.add(small, { profile }), 'raw');
          assert.equal(digest(block), await sha256(small));
          // Its leaves are raw bytes and no two are alike, so they follow each other in the CAR as in the file.
          const cid = await peer.add(large, { profile });
          const leaves = blocksOf(await gateway(cid, 'car'), cid).filter(({ cid }) => cid.code === RAW);
          assert.equal(digest(...leaves.map(({ bytes }) => bytes)), await sha256(large));
          const oldCid = await peer.add(old, { profile: 'unixfs-v0-2015' });
          assert.equal(blocksOf(await gateway(oldCid, 'car'), oldCid).length, 10);
        } finally {
          await peer.stop();
        }
      });
    }
  }
});

/** The code of CIDs whose block is bytes of the file and nothing else. */
const RAW = 0x55;

/** The blocks of a CAR of `root`, which comes first, each compared with its CID. */
function blocksOf(car, root) {
  const blocks = [];
  const sections = sectionsOf(car);
  sections.next(); // The header.
  for (const section of sections) {
    const [cid, bytes] = CID.decodeFirst(section);
    assert.equal(Buffer.from(cid.multihash.digest).toString('hex'), digest(bytes), `the block ${cid}`);
    blocks.push({ cid, bytes });
  }
  assert.equal(blocks[0]?.cid.toString(), root);
  return blocks;
}

/** What the varint lengths of a CAR divide it into. */
function* sectionsOf(car) {
  let at = 0;
  while (at < car.length) {
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = car[at++];
      length += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    assert.ok(at + length <= car.length, 'the CAR is cut off');
    yield car.subarray(at, (at += length));
  }
}

function digest(...parts) {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}
