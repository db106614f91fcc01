// A Helia in Chromium, driven from here.

import { bundledSite } from './site.mjs';

const READY_MS = 60_000;

/** The bundled page, served on loopback; the pages opened from it have a context each. */
export class HeliaSite {
  static async open() {
    const site = new HeliaSite();
    site.bundle = await bundledSite('helia-page');
    return site;
  }

  /** Opens the page in a browser of the caller. */
  async peer(browser) {
    const peer = new HeliaPage();
    peer.kind = 'helia-page';
    peer.page = await (await browser.newContext()).newPage();
    const problems = [];
    peer.page.on('pageerror', (error) => problems.push(error.message));
    await peer.page.goto(this.bundle.origin);
    await peer.page.waitForFunction(() => globalThis.helia, undefined, { timeout: READY_MS }).catch((error) => {
      throw new Error(`${error.message} ${problems.join('; ')}`);
    });
    peer.peerId = await peer.page.evaluate(() => helia.peerId);
    return peer;
  }

  close() {
    return this.bundle.close();
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
