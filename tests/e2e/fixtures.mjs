// What the tests store: real files of this machine and repository, and generated ones that are the same
// on every machine.

import { createHash } from 'node:crypto';
import { mkdir, open, readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** A real program's first five megabytes: Node's own. */
export async function realBinary(folder, size = 5_000_000) {
  const file = path.join(folder, 'program.bin');
  const source = await open(process.execPath);
  const { buffer, bytesRead } = await source.read(Buffer.alloc(size), 0, size, 0);
  await source.close();
  if (bytesRead !== size) throw new Error(`${process.execPath} is smaller than ${size} bytes`);
  await writeFile(file, buffer);
  return file;
}

/** A real folder: the sources of the page, with text, SVG and nested folders. `{path in the tree: file}` */
export async function realFolder(prefix = 'site') {
  const top = path.join(ROOT, 'www');
  const files = {};
  for (const part of ['src', 'public']) {
    for (const name of await readdir(path.join(top, part), { recursive: true, withFileTypes: true })) {
      if (!name.isFile()) continue;
      const from = path.join(name.parentPath ?? name.path, name.name);
      files[[prefix, ...path.relative(top, from).split(path.sep)].join('/')] = from;
    }
  }
  return files;
}

/** Bytes that look random and are the same everywhere (xorshift32). */
export function noise(size, seed = 1) {
  const words = new Uint32Array(Math.ceil(size / 4));
  let state = seed >>> 0 || 1;
  for (let at = 0; at < words.length; at += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[at] = state >>> 0;
  }
  return Buffer.from(words.buffer, 0, size);
}

export async function noiseFile(folder, name, size, seed) {
  await mkdir(folder, { recursive: true });
  const file = path.join(folder, name);
  await writeFile(file, noise(size, seed));
  return file;
}

export async function sha256(file) {
  return createHash('sha256').update(await readFile(file)).digest('hex');
}
