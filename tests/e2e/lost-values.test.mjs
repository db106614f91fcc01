// Large blocks lie in files of the browser's, beside its database. Here those files are removed while the browser is
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
      if (!entry.isFile() || !entry.parentPath.includes('.indexeddb.blob')) continue;
      await rm(path.join(entry.parentPath, entry.name));
      lost += 1;
    }
    await visit();
    return lost;
  }

  /** Writes every blob as the array that earlier versions of the package wrote. */
  function asArrays() {
    return page.attempt(async (peer) => {
      await peer.close();
      const done = (request) =>
        new Promise((resolve, reject) => {
          request.onsuccess = () => resolve(request.result);
          request.onerror = () => reject(request.error);
        });
      let rewritten = 0;
      for (const { name } of await indexedDB.databases()) {
        const database = await done(indexedDB.open(name));
        const blocks = () => database.transaction('blocks', 'readwrite').objectStore('blocks');
        for (const key of await done(blocks().getAllKeys())) {
          const value = await done(blocks().get(key));
          if (!(value instanceof Blob)) continue;
          const array = new Uint8Array(await value.arrayBuffer());
          await done(blocks().put(array, key));
          rewritten += 1;
        }
        database.close();
      }
      return rewritten;
    });
  }

  const store = async () => (await page.storeFiles({ 'large.bin': large.file }))['large.bin'].fileCid;
  const isDamaged = (cid) => assert.rejects(page.get(cid, undefined, { timeout: 2000 }), failsWith('CORRUPT_BLOCK', 'NOT_FOUND'));

  test('arrays that an earlier version wrote are read', async () => {
    const cid = await store();
    await page.attempt((peer, text) => peer.storeFile('small.txt', text), SMALL);
    assert.ok((await asArrays()) >= 3);
    await visit();
    await page.receives(cid, large);
  });

  for (const kind of ['arrays', 'blobs']) {
    test(`lost ${kind} are damaged blocks, and whole again when they are stored again`, async () => {
      const cid = await store();
      assert.ok((await loseFiles()) >= 3);
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
