// The page of a bench, bundled and served on loopback, and the browsers that visit it: each with a fresh profile on
// disk, so that nothing is stored yet and what is stored goes to the disk.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { PKG, serveFolder } from '../e2e/harness.mjs';
import { Browser } from './browser.mjs';

/** What a run may take in memory and on the disk. */
const TOUCHED_BYTES = 512 * 1024 * 1024;

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

  /** Runs `work({browser, profile})`; see `Browser` for what it can do. */
  async inFreshBrowser(work) {
    await this.#touchMemory();
    const profile = await mkdtemp(path.join(this.folder, 'profile-'));
    const browser = await Browser.open(profile, this.#server.origin);
    try {
      return await work({ browser, profile, call: (name, argument) => browser.call(name, argument) });
    } finally {
      await browser.close();
      await rm(profile, { recursive: true, force: true });
    }
  }

  /**
   * A virtual machine hands free memory back to its host within seconds, and what it then takes costs several times
   * as much: whoever came after a run that stored nothing paid for that. So as much as a run needs is taken before each.
   */
  async #touchMemory() {
    const file = path.join(this.folder, 'touched');
    await writeFile(file, Buffer.alloc(TOUCHED_BYTES, 1));
    await rm(file);
  }

  async close() {
    await this.#server?.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}
