// What the page makes of names and numbers; no browser needed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { explain } from '../../www/src/errors.js';
import { bytes, kind, safeName, short } from '../../www/src/format.js';

test('amounts are short', () => {
  const shown = [0, 999, 1000, 5_242_880, 999_500, 25e9, 7e15].map(bytes);
  assert.deepEqual(shown, ['0 bytes', '999 bytes', '1.0 KB', '5.2 MB', '1.0 MB', '25.0 GB', '7000 TB']);
});

test('names cannot disguise their ending or leave their folder', () => {
  assert.equal(safeName('photos/cat\u202egnp.exe'), 'cat\ufffdgnp.exe');
  assert.equal(safeName('a/b/'), 'b');
  assert.equal(safeName('../..'), 'file');
  assert.equal(safeName('\n'), '\ufffd');
  assert.equal(safeName(''), 'file');
  assert.equal(safeName('x'.repeat(999)).length, 255);
});

test('ids keep their ends', () => {
  assert.equal(short('12D3KooWQQK7pGPaTxZn2gtfxoVTyfJ8T4YQmgzTT5jKYpBdV7op'), '12D3KooWQQ…BdV7op');
  assert.equal(short('abc'), 'abc');
});

test('types are said in words', () => {
  const types = ['image/svg+xml', 'text/plain; charset=utf-8', 'application/octet-stream', 'application/pdf', '', undefined];
  assert.deepEqual(types.map(kind), ['SVG image', 'text', 'data', 'PDF', 'data', 'data']);
});

test('errors have a sentence, also those without a code of ours', () => {
  assert.match(explain({ code: 'NOT_FOUND', message: 'block x' }).technical, /^NOT_FOUND: block x$/);
  assert.equal(explain({ code: 'toString', message: 'odd' }).sentence, 'Something went wrong.');
  assert.equal(explain(new DOMException('stopped', 'AbortError')).technical, '');
});
