// What can be said about the scripts without running them: they parse, the declarations compile, every
// error code has a sentence on the page, no lock file names a registry.

import { spawnSync } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const problems = [];

const scripts = [];
for (const folder of ['src/js', 'tests', 'www']) await collect(path.join(ROOT, folder));
for (const script of scripts) run(`${path.relative(ROOT, script)} does not parse`, ['--check', script]);

const tsc = createRequire(import.meta.url).resolve('typescript/package.json').replace(/package\.json$/, 'bin/tsc');
run('the type declarations do not fit their use', [tsc, '--project', path.join(ROOT, 'tests/types/tsconfig.json')]);

const declared = codesIn(await read('src/js/index.d.ts'), /^ {2}\| '([A-Z_]+)'/gm);
const explained = codesIn(await read('www/src/errors.js'), /^ {2}([A-Z_]+): /gm);
if (declared.size === 0) problems.push('src/js/index.d.ts declares no error codes');
for (const code of declared) if (!explained.has(code)) problems.push(`www/src/errors.js has no sentence for ${code}`);
for (const code of explained) if (!declared.has(code)) problems.push(`www/src/errors.js explains ${code}, which is no error code`);

for (const folder of ['tests', 'www']) {
  if ((await read(`${folder}/package-lock.json`)).includes('"resolved"')) problems.push(`${folder}/package-lock.json names a registry`);
}

if (problems.length > 0) {
  console.error(problems.join('\n'));
  process.exitCode = 1;
} else {
  console.log(`${scripts.length} scripts parse, the declarations compile, ${declared.size} error codes have a sentence`);
}

async function collect(folder) {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (['node_modules', 'dist', 'output'].includes(entry.name)) continue;
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) await collect(file);
    else if (/\.m?js$/.test(entry.name)) scripts.push(file);
  }
}

function read(file) {
  return readFile(path.join(ROOT, file), 'utf8');
}

function codesIn(text, pattern) {
  return new Set([...text.matchAll(pattern)].map(([, code]) => code));
}

function run(problem, args) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) problems.push(`${problem}:\n${stdout}${stderr}`);
}
