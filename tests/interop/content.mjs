// What the peers exchange: the same on every machine, made once for a test file.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { noiseFile, sha256 } from '../e2e/fixtures.mjs';

export const KIB = 1 << 10;
export const MIB = 1 << 20;

/** Entries of the large directory and the length of a name: above 256 KiB of links, where shards begin. */
const SHARDED_ENTRIES = 2000;
const SHARDED_NAME = 110;
/** Its files repeat themselves: what is tested is the directory. */
const SHARDED_CONTENTS = 64;

/** What is exchanged in each direction over each transport; the seed keeps one direction's bytes from another's. */
export function cases(seed) {
  return [
    { name: '1 byte', size: 1, profile: 'unixfs-v1-2025', seed },
    { name: '1 MiB', size: MIB, profile: 'kubo-v1-raw', seed },
    { name: 'a CIDv0 file', size: 2 * MIB + 5, profile: 'unixfs-v0-2015', seed },
  ];
}

/** The large one, once for each kind of peer and direction. */
export const LARGE = 100 * MIB;

export class Content {
  static async make() {
    const content = new Content();
    content.folder = await mkdtemp(path.join(tmpdir(), 'tabpeer-content-'));
    return content;
  }

  /** A file of so many bytes; another seed, other bytes. */
  file(size, seed = size) {
    return noiseFile(this.folder, `${size}-${seed}.bin`, size, seed);
  }

  /** A flat folder that becomes a HAMT in each profile; another seed, other bytes. */
  async shardedFolder(seed = 1) {
    const folder = path.join(this.folder, `sharded-${seed}`);
    await mkdir(folder);
    const entries = Array.from({ length: SHARDED_ENTRIES }, (_, at) =>
      writeFile(path.join(folder, `entry ${at} `.padEnd(SHARDED_NAME, 'x')), `${seed}: the content of ${at % SHARDED_CONTENTS}\n`),
    );
    await Promise.all(entries);
    return folder;
  }

  /** A file, and the files that make it when joined. */
  async inPieces(count, size) {
    const whole = await this.file(count * size, 99);
    const bytes = await readFile(whole);
    const pieces = Array.from({ length: count }, (_, at) => path.join(this.folder, `piece-${at}`));
    await Promise.all(pieces.map((piece, at) => writeFile(piece, bytes.subarray(at * size, (at + 1) * size))));
    return { whole, pieces };
  }

  /** A path where nothing is yet. */
  fresh(name) {
    this.count = (this.count ?? 0) + 1;
    return path.join(this.folder, `${this.count}-${name}`);
  }

  async remove() {
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Each name with the digest of its file: what a Helia page says of a directory. */
export async function folderEntries(folder) {
  const names = (await readdir(folder)).sort();
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await sha256(path.join(folder, name))])));
}

/** One digest for a folder's names and bytes. */
export async function folderDigest(folder) {
  const hash = createHash('sha256');
  for (const name of (await readdir(folder)).sort()) hash.update(`${name}\0`).update(await readFile(path.join(folder, name)));
  return hash.digest('hex');
}

/** Fetches with a real peer and compares with the original file or folder. */
export async function fetchesTheSame(peer, content, cid, original) {
  const to = content.fresh(peer.kind);
  await peer.fetch(cid, to);
  const digest = (await isFolder(original)) ? folderDigest : sha256;
  assert.equal(await digest(to), await digest(original), `${cid} fetched by ${peer.kind}`);
  await rm(to, { recursive: true });
}

async function isFolder(at) {
  return readdir(at).then(
    () => true,
    () => false,
  );
}
