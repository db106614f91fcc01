// The examples in the README and in the declarations, each run in a page of its own.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { PeerPage } from './browser.mjs';
import { ROOT } from './fixtures.mjs';
import { PKG, Stage } from './harness.mjs';

let stage;
before(async () => {
  stage = await Stage.open();
});
after(() => stage?.close());

const examples = [
  ...found('README.md', await readFile(path.join(ROOT, 'README.md'), 'utf8').catch(() => '')),
  ...found('index.d.ts', (await readFile(path.join(PKG, 'index.d.ts'), 'utf8')).replace(/^\s*\* ?/gm, '')),
];

test('there are examples', () => assert.ok(examples.length > 0));

for (const { name, code } of examples) {
  test(name, { timeout: 60_000 }, async () => {
    const { context, said } = await run(code);
    // One that prints a link to itself is there for two: the second opens it, and the first hears of that.
    const [link] = said.join(' ').match(/http:\S+\?\S+/) ?? [];
    assert.equal(link !== undefined, code.includes('location.search'), said.join('\n'));
    if (link) {
      const lines = said.length;
      const second = await run(code, link);
      assert.ok(said.length > lines, said.join('\n'));
      await second.context.close();
    }
    await context.close();
  });
}

/** Runs an example in a page of its own, which stays; what it prints is in `said`. */
async function run(code, at) {
  const context = await stage.browser.newContext();
  const { page, problems } = await PeerPage.load(context, stage.origin, at);
  const said = [];
  page.on('console', (message) => {
    said.push(message.text());
    if (message.type() === 'assert') problems.push(`assertion failed: ${message.text()}`);
  });
  await page.evaluate(async (code) => {
    const url = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
    await import(url);
  }, code);
  assert.deepEqual(problems, []);
  return { context, said };
}

function found(file, text) {
  return [...text.matchAll(/```(?:js|javascript)\n([\s\S]*?)```/g)]
    .map(([, code], index) => ({ name: `${file}, example ${index + 1}`, code }))
    .filter(({ code }) => /from 'tabpeer'/.test(code));
}
