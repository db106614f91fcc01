// Code written for the client of p2p-webapp runs by changing the import: an app that knows nothing but that client's
// methods, their arguments and their results, in two browsers with a relay between them.

import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { PeerPage } from './browser.mjs';
import { ROOT } from './fixtures.mjs';
import { Stage } from './harness.mjs';

const MINUTE = 60_000;
const THEIRS = "import { connect } from './client.js';";
const OURS = "import { connect } from '/pkg/index.js';";
const NOBODYS = 'bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy';

/** Puts the app beside the package, with our import. */
async function serveApp(site) {
  const from = path.join(ROOT, 'tests/e2e/p2p-webapp-page');
  const app = await readFile(path.join(from, 'app.js'), 'utf8');
  assert.equal(app.split(THEIRS).length, 2, 'the app imports the client in one place');
  await mkdir(path.join(site, 'app'));
  await writeFile(path.join(site, 'app/app.js'), app.replace(THEIRS, OURS));
  await writeFile(path.join(site, 'app/index.html'), await readFile(path.join(from, 'index.html')));
}

/** The app in a context of its own, used as a person would. */
class Person {
  static async come(stage) {
    const person = new Person();
    person.peer = await PeerPage.load(await stage.browser.newContext(), stage.origin, '/app/index.html');
    person.page = person.peer.page;
    await person.see('#state', /^here$/);
    person.id = await person.text('#me');
    return person;
  }

  text(selector) {
    return this.page.locator(selector).textContent();
  }

  /** Waits until an element has such a text. */
  async see(selector, text) {
    await this.page.locator(selector).filter({ hasText: text }).first().waitFor({ state: 'attached', timeout: MINUTE }).catch(async (error) => {
      const shown = await this.page.locator('body').innerText();
      throw new Error(`${selector} does not say ${text}: ${shown}`, { cause: error });
    });
  }

  /** Fills in a form and sends it off. */
  async submit(form, fields, button = 'button') {
    for (const [name, value] of Object.entries(fields)) {
      const field = this.page.locator(`#${form} [name=${name}]`);
      await (name === 'file' ? field.setInputFiles(value) : field.fill(value));
    }
    await this.page.locator(`#${form} ${button}`).click();
  }

  async click(what, file) {
    await this.page.locator(file === undefined ? `#${what}` : `[id="${what}:${file}"]`).click();
  }

  async isWell() {
    assert.equal(await this.text('#trouble'), '');
    assert.deepEqual(this.peer.problems, []);
  }
}

describe("an app for p2p-webapp's client", { timeout: 5 * MINUTE }, () => {
  let stage;
  let a;
  let b;
  before(async () => {
    stage = await Stage.open();
    await serveApp(stage.site);
    [a, b] = await Promise.all([Person.come(stage), Person.come(stage)]);
  });
  after(() => stage?.close());

  test('connect: an identity that stays, and a version', async () => {
    assert.match(a.id, /^12D3Koo/);
    assert.match(await a.text('#version'), /^\d+\.\d+\.\d+/);
    await b.page.reload();
    await b.see('#state', /^here$/);
    assert.equal(await b.text('#me'), b.id);
  });

  test('subscribe, publish, listPeers, unsubscribe', async () => {
    await a.see('#people', b.id);
    await b.see('#people', a.id);
    await a.submit('say', { text: 'good morning' });
    await b.see('#room', `${a.id}: good morning`);
    await a.see('#room', `${a.id}: good morning (to 1)`);
    await b.click('leave');
    await a.see('#people', /^$/);
    await a.isWell();
    await b.isWell();
  });

  test('start, send, stop', async () => {
    await a.submit('tell', { to: b.id, text: 'just you' });
    await b.see('#told', `${a.id}: just you`);
    await a.see('#told', /just you ✓ ✓$/);
    await b.submit('tell', { to: a.id, text: 'and you' });
    await a.see('#told', `${b.id}: and you`);
    await a.isWell();
    await b.click('deaf');
    await a.submit('tell', { to: b.id, text: 'anybody?' });
    await a.see('#trouble', /^true .+/);
    assert.equal((await b.text('#told')).includes('anybody?'), false);
  });

  test('addPeers, removePeers', async () => {
    await a.submit('contact', { peer: b.id }, '[name=add]');
    await a.see('#contacts', b.id);
    await a.submit('contact', { peer: b.id }, '[name=remove]');
    await a.see('#contacts', /^$/);
    await a.isWell();
  });

  test('storeFile, createDirectory, listFiles, removeFile', async () => {
    await a.submit('store', { path: 'notes/hello.txt', text: 'Grüße' });
    await a.see('#files', 'notes/hello.txt text/plain');
    const noise = await stage.noise('noise.bin', 300_000, 5);
    await a.submit('store', { path: 'noise.bin', text: '', file: noise.file });
    await a.see('#files', 'noise.bin application/octet-stream');
    await a.submit('folder', { path: 'empty/folder' });
    await a.see('#files', 'empty/folder folder');
    await a.submit('folder', { path: 'unwanted' });
    await a.see('#files', 'unwanted folder');
    await a.click('Remove', 'unwanted');
    await a.see('#files', /^(?!.*unwanted)/s);
    await a.isWell();

    await b.submit('browse', { peer: a.id });
    await b.see('#tree', await a.text('#tree'));
    for (const entry of ['notes folder', 'notes/hello.txt text/plain', 'noise.bin application/octet-stream', 'empty/folder folder']) {
      await b.see('#files', entry);
    }
    await b.isWell();
  });

  test('getFile, from the peer that has it, and without naming one', async () => {
    const { sha256 } = await stage.noise('noise.bin', 300_000, 5);
    await b.click('Open', 'noise.bin');
    await b.see('#opened', `application/octet-stream: ${sha256}`);
    await b.click('Open', 'notes');
    await b.see('#opened', /^folder: hello\.txt baf\w+$/);
    // A is connected: it is asked without being named.
    await b.click('Find', 'notes/hello.txt');
    await b.see('#opened', /^text\/plain.*: Grüße$/);
    const kept = await b.page.evaluate(() => JSON.parse(localStorage.getItem('last')));
    assert.deepEqual([kept.type, kept.mimeType.split(';')[0], atob(kept.content)], ['file', 'text/plain', Buffer.from('Grüße').toString('latin1')]);
    await b.isWell();
  });

  test('a file that nobody has is an error, with a peer named and without', async () => {
    const failures = await b.page.evaluate(
      async ([cid, peer]) => {
        const { P2PWebAppClient } = await import('/pkg/index.js');
        const client = new P2PWebAppClient();
        const early = [client.peerID, client.peerKey, client.version, client.connected, await failureOf(client.listFiles(peer))];
        // It is open in this page already, by the app.
        const twice = await failureOf(client.connect());
        const closed = new Promise((resolve) => client.addEventListener('close', resolve));
        document.getElementById('close').click();
        const returned = await client.connect({ onClose: () => (globalThis.over = true) });
        const again = await failureOf(client.connect());
        const failures = await Promise.all([client.getFile(cid), client.getFile(cid, peer)].map((get) => get.catch((error) => [error instanceof Error, error.message.length > 0])));
        client.close();
        await closed;
        return { early, codes: [twice.code, again.code], same: returned === client, id: client.peerID, failures, closed: globalThis.over };
      },
      [NOBODYS, a.id],
    );
    assert.equal(failures.early.pop().code, 'CLOSED');
    const expected = { early: [null, null, null, false], codes: ['ALREADY_OPEN', 'ALREADY_OPEN'], same: true, id: b.id, closed: true };
    assert.deepEqual(failures, { ...expected, failures: [[true, true], [true, true]] });
    await b.see('#state', 'closed, false');
  });

  test('a peer that closes leaves the others well', async () => {
    await a.click('close');
    await a.see('#state', 'closed, false');
    await a.isWell();
    await b.isWell();
  });
});
