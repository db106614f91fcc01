// The package as npm packs it, installed into a five-line app, bundled by Vite and run in Chromium.
// (The other tests import it without any bundler.)

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { build } from 'vite';
import { launch } from './browser.mjs';
import { PKG, serveFolder } from './harness.mjs';

const APP = `import { connect } from 'tabpeer';
const peer = await connect({ relays: [] });
const { fileCid } = await peer.storeFile('hello.txt', 'hello from a bundle');
const file = await peer.getFile(fileCid);
document.title = await file.text();
`;

let folder;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'tabpeer-vite-'));
});
after(() => rm(folder, { recursive: true, force: true }));

test('npm packs what is needed, and Vite bundles it', { timeout: 180_000 }, async () => {
  const npm = (...args) => execFileSync('npm', args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  const [packed] = JSON.parse(npm('pack', PKG, '--json', '--pack-destination', folder));
  const names = packed.files.map((file) => file.path);
  for (const name of ['index.js', 'errors.js', 'fetch.js', 'file.js', 'segments.js', 'index.d.ts', 'tabpeer.js', 'tabpeer_bg.wasm', 'README.md', 'LICENSE-MIT', 'LICENSE-APACHE']) {
    assert.ok(names.includes(name), `${name} is not in the package: ${names.join(' ')}`);
  }

  await writeFile(path.join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  npm('install', '--offline', '--no-audit', '--no-fund', `./${packed.filename}`);
  await mkdir(path.join(folder, 'src'));
  await writeFile(path.join(folder, 'src/main.js'), APP);
  await writeFile(path.join(folder, 'index.html'), '<!doctype html><title>starting</title><script type="module" src="/src/main.js"></script>');
  await build({ root: folder, configFile: false, logLevel: 'error', build: { target: 'es2022' } });
  const assets = await readdir(path.join(folder, 'dist/assets'));
  assert.ok(assets.some((name) => name.endsWith('.wasm')), `no wasm among ${assets.join(' ')}`);
  assert.ok(assets.some((name) => name.startsWith('segments')), `no worker among ${assets.join(' ')}`);

  const server = await serveFolder(path.join(folder, 'dist'));
  const browser = await launch();
  try {
    const page = await browser.newPage();
    const problems = [];
    page.on('pageerror', (error) => problems.push(error.message));
    await page.goto(server.origin);
    await page.waitForFunction(() => document.title !== 'starting', undefined, { timeout: 60_000 }).catch((error) => {
      throw new Error(`${error.message} ${problems.join('; ')}`);
    });
    assert.equal(await page.title(), 'hello from a bundle');
  } finally {
    await browser.close();
    await server.close();
  }
});
