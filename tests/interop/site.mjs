// A page of the real peers', bundled by Vite and served on loopback.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { serveFolder } from '../e2e/harness.mjs';

/** `name`: the folder beside this file. */
export async function bundledSite(name) {
  const folder = await mkdtemp(path.join(tmpdir(), `tabpeer-${name}-`));
  const remove = () => rm(folder, { recursive: true, force: true });
  try {
    await build({
      root: fileURLToPath(new URL(name, import.meta.url)),
      configFile: false,
      logLevel: 'error',
      build: { target: 'es2022', outDir: folder, emptyOutDir: true, minify: false, modulePreload: false },
    });
    const server = await serveFolder(folder);
    return { origin: server.origin, close: () => Promise.all([server.close(), remove()]) };
  } catch (error) {
    await remove();
    throw error;
  }
}
