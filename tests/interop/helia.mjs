// Helia as the tests run it, in Node and in a page: nothing public, no discovery, no routing; peers are those
// that are dialled or that dial. Both run the commands of `commands` below.

import { noise } from '@libp2p/noise';
import { yamux } from '@libp2p/yamux';
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2';
import { identify } from '@libp2p/identify';
import { webSockets } from '@libp2p/websockets';
import { withBitswap } from '@helia/bitswap';
import { withLibp2pLight } from '@helia/libp2p';
import { unixfs } from '@helia/unixfs';
import { multiaddr } from '@multiformats/multiaddr';
import { MemoryBlockstore } from 'blockstore-core';
import { createHeliaLight } from 'helia';
import { fixedSize } from 'ipfs-unixfs-importer/chunker';
import { balanced } from 'ipfs-unixfs-importer/layout';
import { CID } from 'multiformats/cid';

/** All said in full: `@helia/unixfs` 8 lets its own defaults win over a profile that is only named. */
const PROFILES = {
  'unixfs-v0-2015': profile({ cidVersion: 0, chunkSize: 256 << 10, width: 174, shardSplitStrategy: 'links-bytes' }),
  'unixfs-v1-2025': profile({ cidVersion: 1, chunkSize: 1 << 20, width: 1024, shardSplitStrategy: 'block-bytes' }),
  'kubo-v1-raw': profile({ cidVersion: 1, chunkSize: 256 << 10, width: 174, shardSplitStrategy: 'links-bytes' }),
};

/** Files of a directory that are fetched at a time. */
const FILES_AT_ONCE = 32;

/** Starts a Helia with these transports beside WebSocket and the circuit, listening at these addresses. Blocks are in memory unless a store is given. */
export async function startHelia({ transports = [], listen = [], blockstore, services = {} } = {}) {
  const helia = withBitswap(
    withLibp2pLight(createHeliaLight(blockstore ? { blockstore } : {}), {
      addresses: { listen },
      transports: [webSockets(), circuitRelayTransport(), ...transports],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      services: { identify: identify(), ...services },
      peerDiscovery: [],
      // A loopback address is what these tests dial, also in a browser.
      connectionGater: { denyDialMultiaddr: () => false },
    }),
  );
  await helia.start();
  return helia;
}

/** Imports a file's bytes; with `part: [index, of]` only that part of its blocks is kept. */
export async function addFile(helia, content, { profile, part }) {
  const scratch = new MemoryBlockstore();
  const cid = await unixfs({ blockstore: scratch }).addByteStream(content, PROFILES[profile]);
  await keep(helia, scratch, part);
  return cid.toString();
}

/** Imports a folder: `entries` yields `{path, content}`. */
export async function addFolder(helia, entries, { profile }) {
  const scratch = new MemoryBlockstore();
  let last;
  for await (const entry of unixfs({ blockstore: scratch }).addAll(entries, { ...PROFILES[profile], wrapWithDirectory: true })) last = entry;
  await keep(helia, scratch);
  return last.cid.toString();
}

/** Which of `of` parts a block is in: the same answer in unixfs.py. */
async function keep(helia, blocks, [index, of] = [0, 1]) {
  for await (const { cid, bytes } of blocks.getAll()) {
    if (cid.multihash.digest.at(-1) % of !== index) continue;
    for await (const chunk of bytes) await helia.blockstore.put(cid, chunk);
  }
}

/** The bytes of a file, as they arrive. */
export function readFile(helia, cid) {
  return unixfs(helia).cat(CID.parse(cid));
}

/** Whether it is a directory, and its size if it is not. */
export async function describe(helia, cid) {
  const { type, size } = await unixfs(helia).stat(CID.parse(cid));
  return { directory: type === 'directory', size: Number(size) };
}

/** Fetches all files of a flat directory, hands each to `file(name, bytes)`, and counts them. */
export async function readFolder(helia, cid, file) {
  const waiting = new Set();
  let count = 0;
  for await (const entry of unixfs(helia).ls(CID.parse(cid))) {
    count += 1;
    const job = collect(unixfs(helia).cat(entry.cid)).then((bytes) => file(entry.name, bytes));
    waiting.add(job);
    job.then(
      () => waiting.delete(job),
      () => {},
    );
    if (waiting.size >= FILES_AT_ONCE) await Promise.race(waiting);
  }
  await Promise.all(waiting);
  return count;
}

export async function dial(helia, address) {
  await helia.libp2p.dial(multiaddr(address));
}

function profile({ cidVersion, chunkSize, width, shardSplitStrategy }) {
  return {
    cidVersion,
    rawLeaves: cidVersion === 1,
    chunker: fixedSize({ chunkSize }),
    layout: balanced({ maxChildrenPerNode: width }),
    shardSplitStrategy,
    fieldOrder: 'links-first',
  };
}

async function collect(chunks) {
  const parts = [];
  for await (const chunk of chunks) parts.push(chunk);
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
