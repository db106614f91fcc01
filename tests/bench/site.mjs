// The page of a bench, bundled and served on loopback, and the browsers that visit it: each with a fresh profile on
// disk, so that nothing is stored yet and what is stored goes to the disk.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { PKG, serveFolder } from '../e2e/harness.mjs';
import { Browser } from './browser.mjs';

/** A browser rests when it uses less than this share of a processor for so long, in so many looks. */
const RESTING = { share: 0.08, lookMs: 250, looks: 2, patienceMs: 10_000 };

export class Site {
  #server;

  /** Bundles the page in the folder `name`; it offers its functions as `bench`. */
  static async open(name) {
    const site = new Site();
    site.folder = await mkdtemp(path.join(tmpdir(), 'tabpeer-bench-'));
    site.bundle = path.join(site.folder, 'site');
    try {
      await build({
        root: fileURLToPath(new URL(name, import.meta.url)),
        configFile: false,
        logLevel: 'error',
        resolve: { alias: { 'tabpeer/raw': path.join(PKG, 'tabpeer.js'), tabpeer: path.join(PKG, 'index.js') } },
        build: { outDir: site.bundle, target: 'es2022', assetsInlineLimit: 0 },
      });
      site.#server = await serveFolder(site.bundle);
    } catch (error) {
      await site.close();
      throw error;
    }
    return site;
  }

  /**
   * Runs `work({browser, profile, call, quiet})`; see `Browser` for what it can do. What is measured is called after
   * `quiet()`.
   */
  async inFreshBrowser(work) {
    const profile = await mkdtemp(path.join(this.folder, 'profile-'));
    const browser = await Browser.open(profile, this.#server.origin);
    try {
      const call = (name, argument) => browser.call(name, argument);
      return await work({ browser, profile, call, quiet: () => this.#quiet(browser) });
    } finally {
      await browser.close();
      await rm(profile, { recursive: true, force: true });
    }
  }

  /** Keeps the browser's own start out of what is measured next. */
  async #quiet(browser) {
    const { share, lookMs, looks, patienceMs } = RESTING;
    let used = await browser.processorSeconds();
    for (let resting = 0, waited = 0; resting < looks && waited < patienceMs; waited += lookMs) {
      await new Promise((resolve) => setTimeout(resolve, lookMs));
      const before = used;
      used = await browser.processorSeconds();
      resting = used - before < (share * lookMs) / 1000 ? resting + 1 : 0;
    }
  }

  async close() {
    await this.#server?.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}
