// A Helia in Chromium, driven from here.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { serveFolder } from '../e2e/harness.mjs';

const SOURCE = fileURLToPath(new URL('helia-page', import.meta.url));
const READY_MS = 60_000;

/** The bundled page, served on loopback; the pages opened from it have a context each. */
export class HeliaSite {
  static async open() {
    const site = new HeliaSite();
    site.folder = await mkdtemp(path.join(tmpdir(), 'tabpeer-helia-page-'));
    await build({
      root: SOURCE,
      configFile: false,
      logLevel: 'error',
      build: { target: 'es2022', outDir: site.folder, emptyOutDir: true, minify: false, modulePreload: false },
    });
    site.server = await serveFolder(site.folder);
    return site;
  }

  /** Opens the page in a browser of the caller. */
  async peer(browser) {
    const peer = new HeliaPage();
    peer.kind = 'helia-page';
    peer.page = await (await browser.newContext()).newPage();
    const problems = [];
    peer.page.on('pageerror', (error) => problems.push(error.message));
    await peer.page.goto(this.server.origin);
    await peer.page.waitForFunction(() => globalThis.helia, undefined, { timeout: READY_MS }).catch((error) => {
      throw new Error(`${error.message} ${problems.join('; ')}`);
    });
    peer.peerId = await peer.page.evaluate(() => helia.peerId);
    return peer;
  }

  async close() {
    await this.server?.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}

class HeliaPage {
  dial(address) {
    return this.page.evaluate((address) => helia.dial(address), address);
  }

  peers() {
    return this.page.evaluate(() => helia.peers());
  }

  /** `{size, sha256}` of a file, `{entries: {name: sha256}}` of a flat directory. */
  fetch(cid) {
    return this.page.evaluate((cid) => helia.fetch(cid), cid);
  }

  /** Imports text, so that a test need not carry bytes into the page. */
  addText(text, options) {
    return this.page.evaluate(([text, options]) => helia.add(new TextEncoder().encode(text), options), [text, options]);
  }
}
