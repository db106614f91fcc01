// Chromium, and a peer in a page of it. Every peer has a browser context of its own: no shared storage,
// no shared connection.

import assert from 'node:assert/strict';
import { accessSync } from 'node:fs';
import path from 'node:path';
import { chromium } from 'playwright-core';

/** QUIC stays on: WebTransport needs it. */
export const SWITCHES = [
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export function chromiumPath() {
  const named = process.env.TABPEER_CHROMIUM;
  if (named) return named;
  for (const folder of (process.env.PATH ?? '').split(path.delimiter)) {
    for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
      try {
        accessSync(path.join(folder, name));
        return path.join(folder, name);
      } catch {
        // The next one.
      }
    }
  }
  throw new Error('no Chromium on PATH: run `cargo xtask setup` or set TABPEER_CHROMIUM');
}

export function launch(options = {}) {
  return chromium.launch({ executablePath: chromiumPath(), headless: true, ...options, args: [...SWITCHES, ...(options.args ?? [])] });
}

/** What a call in the page failed with. */
export class PageFailure extends Error {
  constructor({ name, code, message }) {
    super(message);
    this.name = name;
    this.code = code;
  }
}

/**
 * Transports that a page opened to the outside, as the browser itself reports them; `received` counts the
 * bytes that came over WebSockets.
 */
export async function watchTransports(page) {
  const opened = Object.assign([], { received: 0 });
  const session = await page.context().newCDPSession(page);
  session.on('Network.webSocketCreated', ({ url }) => opened.push({ transport: 'ws', url }));
  session.on('Network.webTransportCreated', ({ url }) => opened.push({ transport: 'webtransport', url }));
  session.on('Network.webSocketFrameReceived', ({ response }) => {
    opened.received += Math.floor((response.payloadData.length * 3) / 4);
  });
  await session.send('Network.enable');
  return opened;
}

/** What the tests call inside a page. */
function addHelpers() {
  globalThis.sha256 = async (bytes) => {
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  };
  /** What a promise fails with, as JSON. */
  globalThis.failureOf = (promise) =>
    Promise.resolve(promise).then(
      () => 'no failure',
      (error) => ({ name: error.name, code: error.code, message: error.message }),
    );
}

/** A page that runs a peer, driven from here. */
export class PeerPage {
  /** Opens the test page in a context and connects a peer there. */
  static async open(context, origin, options) {
    const peer = await PeerPage.load(context, origin);
    await peer.connect(options);
    return peer;
  }

  /** Opens the test page without a peer. */
  static async load(context, origin, at = '/peer.html') {
    const peer = new PeerPage();
    peer.page = await context.newPage();
    await peer.page.addInitScript(addHelpers);
    peer.problems = [];
    peer.page.on('pageerror', (error) => peer.problems.push(`uncaught: ${error.message}`));
    peer.page.on('console', (message) => {
      // A panic in the wasm is reported there and nowhere else.
      if (message.type() === 'error' && /panicked|unreachable/.test(message.text())) peer.problems.push(message.text());
      if (process.env.TABPEER_CONSOLE) console.error(`[page] ${message.type()}: ${message.text()}`);
    });
    peer.transports = await watchTransports(peer.page);
    await peer.page.goto(new URL(at, origin).href);
    return peer;
  }

  /** `options` as the package takes them; the peer becomes `peer` in later calls. */
  async connect(options = {}) {
    const known = await this.attempt(async (_, options) => {
      const { connect } = await import('tabpeer');
      globalThis.peer = await connect(options);
      return { peerID: peer.peerID, peerKey: peer.peerKey };
    }, options);
    Object.assign(this, known);
    return this;
  }

  /**
   * Runs `body(peer, argument)` in the page. Its result must be JSON; what it throws is a PageFailure
   * with the code. As text of the debugger it is not subject to the page's own policy.
   */
  async attempt(body, argument) {
    const outcome = await this.page.evaluate(`(async () => {
      try {
        return { value: await (${body})(globalThis.peer, ${JSON.stringify(argument) ?? 'undefined'}) };
      } catch (error) {
        return { failure: { name: String(error?.name), code: error?.code, message: String(error?.message ?? error) } };
      }
    })()`);
    if (outcome.failure) throw new PageFailure(outcome.failure);
    return outcome.value;
  }

  /** Stores files of this machine, each handed to the page as a real `File`. */
  async storeFiles(files, options) {
    const stored = {};
    for (const [to, from] of Object.entries(files)) {
      await this.page.setInputFiles('#files', from);
      stored[to] = await this.attempt(
        (peer, { to, options }) => peer.storeFile(to, document.querySelector('#files').files[0], options),
        { to, options },
      );
    }
    return stored;
  }

  /** Gets a file and says what arrived, with its SHA-256 instead of its bytes. */
  get(cid, from, options) {
    return this.attempt(
      async (peer, { cid, from, options }) => {
        const started = performance.now();
        const events = [];
        const found = await peer.getFile(cid, from, { ...options, onProgress: (progress) => events.push(progress) });
        const seconds = (performance.now() - started) / 1000;
        if (found.type !== 'file') return found;
        const sha256 = await globalThis.sha256(found.bytes);
        return { type: found.type, mimeType: found.mimeType, size: found.size, sha256, seconds, progress: events.at(-1) };
      },
      { cid, from, options },
    );
  }

  /** Gets a file that must have the size and the SHA-256 of `content`; says what `get` says. */
  async receives(cid, content, from, options) {
    const found = await this.get(cid, from, options);
    const { type, size, sha256 } = found;
    assert.deepEqual({ cid, type, size, sha256 }, { cid, type: 'file', size: content.size, sha256: content.sha256 });
    return found;
  }

  has(cid) {
    return this.attempt((peer, cid) => peer.hasFile(cid), cid);
  }

  /** The bytes that come over WebSockets while `work` runs. */
  async received(work) {
    const before = this.transports.received;
    await work();
    return this.transports.received - before;
  }

  list(peerID) {
    return this.attempt((peer, peerID) => peer.listFiles(peerID), peerID);
  }

  /** Stops the page where it is, as a debugger does: connected, and silent. Resolves with what lets it go on. */
  async freeze() {
    const session = await this.page.context().newCDPSession(this.page);
    await session.send('Debugger.enable');
    const paused = new Promise((resolve) => session.once('Debugger.paused', resolve));
    await session.send('Debugger.pause');
    // Something has to run to be stopped.
    const nudge = this.page.evaluate('1');
    await paused;
    return async () => {
      await session.send('Debugger.resume');
      await nudge;
      await session.detach();
    };
  }

  /** Closes the context: page, connections and storage are gone. */
  leave() {
    return this.page.context().close();
  }

  /** Proof that the peer is alive: it stores and reads back. */
  async works() {
    const text = `still here ${Math.random()}`;
    const back = await this.attempt(async (peer, text) => {
      const { fileCid } = await peer.storeFile('probe/alive.txt', text);
      const found = await peer.getFile(fileCid);
      await peer.removeFile('probe');
      return found.text();
    }, text);
    if (back !== text) throw new Error(`stored "${text}", got "${back}"`);
    if (this.problems.length > 0) throw new Error(`the page reported: ${this.problems.join('; ')}`);
  }

  /** Bytes in all records of this origin's databases, whatever their layout, and in its files. */
  storedBytes() {
    return this.attempt(async () => {
      let total = 0;
      const done = (request) =>
        new Promise((resolve, reject) => {
          request.onsuccess = () => resolve(request.result);
          request.onerror = () => reject(request.error);
        });
      for (const { name } of await indexedDB.databases()) {
        const database = await done(indexedDB.open(name));
        for (const store of database.objectStoreNames) {
          const records = await done(database.transaction(store).objectStore(store).getAll());
          for (const record of records) total += record?.byteLength ?? record?.size ?? 0;
        }
        database.close();
      }
      return total + (await bytesIn(await navigator.storage.getDirectory()));

      async function bytesIn(folder) {
        let bytes = 0;
        for await (const entry of folder.values()) {
          // One that goes away meanwhile is gone.
          bytes += entry.kind === 'directory' ? await bytesIn(entry) : ((await entry.getFile().catch(() => undefined))?.size ?? 0);
        }
        return bytes;
      }
    });
  }

  /** Waits until `condition(peer)`, or what it promises, holds in the page. (Playwright's own wait takes any promise for a yes.) */
  async until(condition, argument, timeout = 60_000) {
    const held = await this.page.evaluate(`(async () => {
      const deadline = Date.now() + ${timeout};
      while (!(await (${condition})(globalThis.peer, ${JSON.stringify(argument) ?? 'undefined'}))) {
        if (Date.now() > deadline) return false;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      return true;
    })()`);
    assert.ok(held, `not within ${timeout} ms: ${condition}`);
  }
}
