// One stage for a test file: a relay that serves the built package and a test page, and a Chromium.

import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PeerPage, launch } from './browser.mjs';
import { ROOT, noiseFile, sha256 } from './fixtures.mjs';
import { Relay } from './relay.mjs';

export const PKG = process.env.TABPEER_PKG ?? path.join(ROOT, 'pkg');
export const OUTPUT = path.join(ROOT, 'tests/output');

/** What the package imports with by default. */
export const PROFILE = 'unixfs-v1-2025';

/** A page that imports the package as any page without a bundler does. */
const PEER_PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>peer</title>
<link rel="icon" href="data:,">
<script type="importmap">{ "imports": { "tabpeer": "/pkg/index.js" } }</script>
<input type="file" id="files" multiple>
</html>
`;

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
};

export class Stage {
  /** `page: true` also serves the bundled demo page at `/`. */
  static async open({ page = false, relay = true } = {}) {
    const stage = new Stage();
    stage.folder = await mkdtemp(path.join(tmpdir(), 'tabpeer-e2e-'));
    stage.site = path.join(stage.folder, 'site');
    await mkdir(stage.site, { recursive: true });
    await mkdir(OUTPUT, { recursive: true });
    if (page) await cp(process.env.TABPEER_SITE ?? path.join(ROOT, 'www/dist'), stage.site, { recursive: true });
    await cp(PKG, path.join(stage.site, 'pkg'), { recursive: true });
    await writeFile(path.join(stage.site, 'peer.html'), PEER_PAGE);
    try {
      if (relay) stage.relay = await Relay.start({ site: stage.site });
      stage.browser = await launch();
    } catch (error) {
      await stage.close();
      throw error;
    }
    return stage;
  }

  get origin() {
    return this.relay.http;
  }

  /** A peer in a context of its own, unless one is given. */
  async peer(options, context, origin = this.origin) {
    return PeerPage.open(context ?? (await this.browser.newContext()), origin, options);
  }

  /** A peer that leaves when `work(peer)` is done; its page must not have reported anything. */
  async visitor(options, work) {
    const peer = await this.peer(options);
    try {
      await work(peer);
      assert.deepEqual(peer.problems, []);
    } finally {
      await peer.leave();
    }
  }

  /** A file of noise, with its SHA-256. */
  async noise(name, size, seed) {
    const file = await noiseFile(this.folder, name, size, seed);
    return { file, size, sha256: await sha256(file) };
  }

  /** The same in the relay's store, with its CID. */
  async relayed(name, size, seed) {
    const content = await this.noise(name, size, seed);
    return { ...content, cid: await this.relay.add(content.file, { profile: PROFILE }) };
  }

  async close() {
    await this.browser?.close();
    await this.relay?.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Serves a context from disk, so that its pages load while there is no network. */
  async serveFromDisk(context) {
    await context.route(`${this.origin}/**`, (route) => {
      const { pathname } = new URL(route.request().url());
      const file = path.join(this.site, path.normalize(pathname === '/' ? '/index.html' : pathname));
      return file.startsWith(this.site) && path.extname(file)
        ? route.fulfill({ path: file, contentType: TYPES[path.extname(file)] })
        : route.abort();
    });
  }
}

/** A server of the test's own on loopback. */
export async function serve(handle) {
  const server = createServer(handle);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A plain static server, for what no relay serves. */
export function serveFolder(folder) {
  return serve(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const file = path.join(folder, path.normalize(pathname.endsWith('/') ? `${pathname}index.html` : pathname));
    try {
      if (!file.startsWith(folder)) throw new Error('outside');
      const body = await readFile(file);
      response.writeHead(200, { 'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream' }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
}

/** Messages name what was wrong; they do not repeat a megabyte of it. */
const LONGEST_MESSAGE = 1000;

/** A failure of the package, with one of these codes. */
export function failsWith(...codes) {
  return (error) => {
    const said = String(error.message).slice(0, LONGEST_MESSAGE);
    if (error.name !== 'PeerError' || !codes.includes(error.code)) {
      throw new Error(`expected PeerError ${codes.join(' or ')}, got ${error.name} ${error.code}: ${said}`);
    }
    if (error.message.length > LONGEST_MESSAGE) throw new Error(`a message of ${error.message.length} characters: ${said}`);
    return true;
  };
}
