// Large blocks lie in files beside the database. Here those files are removed while the browser is
// away: the blocks are damaged, each call says so, what is stored again is whole again, and nothing else is lost.

import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { chromium } from 'playwright-core';
import { SWITCHES, chromiumPath } from './browser.mjs';
import { Stage, failsWith } from './harness.mjs';

const MIB = 1024 * 1024;
const SMALL = 'small enough to be in the database itself';

describe('blocks whose files are gone', { timeout: 240_000 }, () => {
  let stage;
  let profile;
  let context;
  let page;
  let large;

  before(async () => {
    stage = await Stage.open();
    profile = await mkdtemp(path.join(stage.folder, 'profile-'));
    large = await stage.noise('large.bin', 3 * MIB, 11);
    await visit();
  });
  after(async () => {
    await context?.close();
    await stage?.close();
  });

  /** The same browser again, with what it has on the disk. */
  async function visit() {
    await context?.close();
    context = await chromium.launchPersistentContext(profile, { executablePath: chromiumPath(), headless: true, args: SWITCHES });
    page = await stage.peer({ relays: [] }, context);
  }

  /** The files of large values, removed while the browser is away; says how many. */
  async function loseFiles() {
    await page.attempt((peer) => peer.close());
    await context.close();
    context = undefined;
    let lost = 0;
    for (const entry of await readdir(profile, { recursive: true, withFileTypes: true })) {
      const isValue = entry.parentPath.includes('.indexeddb.blob') || /File System[/\\]\d+[/\\]t[/\\]/.test(entry.parentPath);
      if (!entry.isFile() || !isValue) continue;
      await rm(path.join(entry.parentPath, entry.name));
      lost += 1;
    }
    await visit();
    return lost;
  }

  /** Writes every large block as earlier versions of the package wrote it; says how many. */
  function asEarlier(kind) {
    return page.attempt(async (peer, kind) => {
      await peer.close();
      const done = (request) =>
        new Promise((resolve, reject) => {
          request.onsuccess = () => resolve(request.result);
          request.onerror = () => reject(request.error);
        });
      const all = await (await navigator.storage.getDirectory()).getDirectoryHandle('tabpeer');
      let rewritten = 0;
      for (const { name } of await indexedDB.databases()) {
        const database = await done(indexedDB.open(name));
        const blocks = () => database.transaction('blocks', 'readwrite').objectStore('blocks');
        for (const key of await done(blocks().getAllKeys())) {
          const { segment, offset, length } = await done(blocks().get(key));
          if (!segment) continue;
          const folder = await all.getDirectoryHandle(`db-${encodeURIComponent(name)}`);
          const file = await (await folder.getFileHandle(`${segment}`)).getFile();
          const bytes = await file.slice(offset, offset + length).arrayBuffer();
          await done(blocks().put(kind === 'blobs' ? new Blob([bytes]) : new Uint8Array(bytes), key));
          rewritten += 1;
        }
        database.close();
      }
      return rewritten;
    }, kind);
  }

  /** How many blocks are in segments. */
  function inSegments() {
    return page.attempt(async () => {
      const done = (request) => new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
      let count = 0;
      for (const { name } of await indexedDB.databases()) {
        const database = await done(indexedDB.open(name));
        count += await done(database.transaction('blocks').objectStore('blocks').index('segment').count());
        database.close();
      }
      return count;
    });
  }

  const store = async () => (await page.storeFiles({ 'large.bin': large.file }))['large.bin'].fileCid;

  /** Where the worker is slow to start, the first blocks go into the database. */
  async function storeInSegments() {
    for (;;) {
      const cid = await store();
      if ((await inSegments()) >= 3) return cid;
      await page.attempt((peer) => peer.removeFile('large.bin'));
    }
  }

  const isDamaged = (cid) => assert.rejects(page.get(cid, undefined, { timeout: 2000 }), failsWith('CORRUPT_BLOCK', 'NOT_FOUND'));

  test('a small file beside the large one', () => page.attempt((peer, text) => peer.storeFile('small.txt', text), SMALL));

  for (const kind of ['segments', 'arrays', 'blobs']) {
    test(`lost ${kind} are damaged blocks, and whole again when they are stored again`, async () => {
      const cid = await storeInSegments();
      if (kind !== 'segments') {
        assert.ok((await asEarlier(kind)) >= 3);
        await visit();
        await page.receives(cid, large);
      }
      assert.ok((await loseFiles()) >= (kind === 'segments' ? 1 : 3));
      await isDamaged(cid);
      assert.equal(await page.attempt(async (peer) => (await peer.getFile((await peer.listFiles()).entries['small.txt'].cid)).text()), SMALL);
      assert.equal(await store(), cid);
      await page.receives(cid, large);
      await visit();
      await page.receives(cid, large);
      assert.deepEqual(page.problems, []);
    });
  }
});
