// What the peers exchange: the same on every machine, made once for a test file.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { noiseFile, sha256 } from '../e2e/fixtures.mjs';

export const KIB = 1 << 10;
export const MIB = 1 << 20;

/** Entries of the large directory, and the length of a name: together above 256 KiB of links, where shards begin. */
const SHARDED_ENTRIES = 2500;
const SHARDED_NAME = 90;

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

  /** A flat folder that becomes a HAMT in each profile. */
  async shardedFolder() {
    const folder = path.join(this.folder, 'sharded');
    await mkdir(folder);
    for (let at = 0; at < SHARDED_ENTRIES; at += 1) {
      const name = `entry ${at} `.padEnd(SHARDED_NAME, 'x');
      await writeFile(path.join(folder, name), `the content of ${at}\n`);
    }
    return folder;
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
