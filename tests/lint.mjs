// What can be said about the scripts without running them: they parse, the declarations and the examples
// compile, every error code has a sentence on the page, no lock file names a registry.

import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const problems = [];

const scripts = [];
for (const folder of ['src/js', 'tests', 'www']) await collect(path.join(ROOT, folder));
for (const script of scripts) run(`${path.relative(ROOT, script)} does not parse`, ['--check', script]);

const tsc = createRequire(import.meta.url).resolve('typescript/package.json').replace(/package\.json$/, 'bin/tsc');
const settings = path.join(ROOT, 'tests/types/tsconfig.json');
run('the type declarations do not fit their use', [tsc, '--project', settings]);
const examples = await typeCheckExamples();
if (examples === 0) problems.push('README.md and src/js/index.d.ts have no examples');

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
  console.log(`${scripts.length} scripts parse, the declarations and ${examples} examples compile, ${declared.size} error codes have a sentence`);
}

async function collect(folder) {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (['node_modules', 'dist', 'output'].includes(entry.name)) continue;
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) await collect(file);
    else if (/\.m?js$/.test(entry.name)) scripts.push(file);
  }
}

/** The examples that tests/e2e runs, as TypeScript. */
async function typeCheckExamples() {
  const folder = await mkdtemp(path.join(tmpdir(), 'tabpeer-examples-'));
  const files = [];
  for (const source of ['README.md', 'src/js/index.d.ts']) {
    const text = (await read(source)).replace(source.endsWith('.ts') ? /^\s*\* ?/gm : /^$/, '');
    for (const [, code] of text.matchAll(/```js\n([\s\S]*?)```/g)) {
      if (!code.includes("from 'tabpeer'")) continue;
      files.push(`${path.basename(source, '.d.ts')}-${files.length + 1}.ts`);
      await writeFile(path.join(folder, files.at(-1)), code);
    }
  }
  const project = path.join(folder, 'tsconfig.json');
  await writeFile(project, JSON.stringify({ extends: settings, files }));
  if (files.length > 0) run('an example does not compile', [tsc, '--project', project]);
  await rm(folder, { recursive: true });
  return files.length;
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
