// The demo page as a person uses it, in two browser contexts.

import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { noiseFile } from './fixtures.mjs';
import { OUTPUT, Stage } from './harness.mjs';

const SVG = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 360" width="640" height="360">
<rect width="640" height="360" fill="#bfe3dc"/><circle cx="500" cy="90" r="48" fill="#ffd166"/>
<path d="M0 260 L150 130 L270 240 L370 160 L640 320 V360 H0 Z" fill="#0d7a6b"/>
<script>document.title = 'an image ran a script'</script></svg>`;
/** Markup, and a name that would be an element if it were not treated as text. */
const HOSTILE = '<img src=x onerror="document.title=1">.html';

/** One second of a square wave, 8 bit. */
function tone(rate) {
  const wav = Buffer.concat([Buffer.alloc(44), Buffer.alloc(rate, 0x70)]);
  for (const [at, text] of [[0, 'RIFF'], [8, 'WAVEfmt '], [36, 'data']]) wav.write(text, at, 'latin1');
  const words = [[4, 36 + rate], [16, 16], [24, rate], [28, rate], [40, rate]];
  for (const [at, value] of words) wav.writeUInt32LE(value, at);
  for (const [at, value] of [[20, 1], [22, 1], [32, 1], [34, 8]]) wav.writeUInt16LE(value, at);
  return wav;
}

describe('the page', { timeout: 240_000 }, () => {
  let stage;
  let alice;
  let bob;
  let cid;
  const problems = [];
  before(async () => {
    stage = await Stage.open({ page: true });
    [alice, bob] = await Promise.all(['light', 'dark'].map((colorScheme) => visit({ colorScheme })));
  });
  after(() => stage?.close());

  async function visit(options) {
    const context = await stage.browser.newContext({ viewport: { width: 1180, height: 900 }, ...options });
    const page = await context.newPage();
    page.on('pageerror', (error) => problems.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error') problems.push(message.text());
    });
    page.on('request', (request) => {
      const { origin, protocol } = new URL(request.url());
      if (origin !== stage.origin && protocol.startsWith('http')) problems.push(`asked ${request.url()}`);
    });
    await page.goto(`${stage.origin}/#files`);
    await page.waitForSelector('body[data-ready]');
    await page.waitForSelector('#status[data-state="online"]');
    return page;
  }

  test('says who it is', async () => {
    const id = await alice.getAttribute('#peer-id', 'data-id');
    assert.match(id, /^12D3Koo\w{45}$/);
    assert.match(await alice.textContent('#status'), /connected/);
  });

  test('files that are chosen are stored and listed with their CIDs', async () => {
    const readme = await readFile(new URL('../../LICENSE-MIT', import.meta.url));
    await alice.setInputFiles('#pick', [
      { name: 'landscape.svg', mimeType: 'image/svg+xml', buffer: Buffer.from(SVG) },
      { name: 'licence.txt', mimeType: 'text/plain', buffer: readme },
      { name: HOSTILE, mimeType: 'text/html', buffer: Buffer.from('<script>document.title = 1</script>') },
    ]);
    await alice.waitForFunction(() => document.querySelectorAll('#uploads li[data-cid]').length === 3);
    cid = await alice.getAttribute('#uploads li[data-path="landscape.svg"]', 'data-cid');
    await alice.waitForSelector(`#my-tree .file[data-cid="${cid}"]`);
  });

  test('a file is stored into a folder, and a folder made', async () => {
    await alice.fill('#folder', 'photos/2026');
    await alice.setInputFiles('#pick', { name: 'sky.svg', mimeType: 'image/svg+xml', buffer: Buffer.from(SVG.replace('ffd166', 'ff6b6b')) });
    await alice.click('#my-tree details[data-path="photos"] > summary');
    await alice.click('#my-tree details[data-path="photos/2026"] > summary');
    await alice.waitForSelector('#my-tree .file[data-path="photos/2026/sky.svg"]');
    await alice.fill('#new-folder input', 'music');
    await alice.click('#new-folder button');
    await alice.waitForSelector('#my-tree details[data-path="music"]');
  });

  test('dropping a file on the page stores it', async () => {
    await alice.fill('#folder', '');
    const transfer = await alice.evaluateHandle(() => {
      const data = new DataTransfer();
      data.items.add(new File(['dropped'], 'dropped.txt', { type: 'text/plain' }));
      return data;
    });
    await alice.dispatchEvent('#drop', 'drop', { dataTransfer: transfer });
    await alice.waitForSelector('#my-tree .file[data-path="dropped.txt"]');
  });

  test('another peer lists the files by id and gets one by CID', async () => {
    const id = await alice.getAttribute('#peer-id', 'data-id');
    await bob.fill('#browse input', id);
    await bob.click('#browse button');
    await bob.waitForSelector(`#peer-tree .file[data-cid="${cid}"]`);
    await bob.fill('#get input[name="cid"]', cid);
    await bob.fill('#get input[name="from"]', id);
    await bob.click('#get button');
    await bob.waitForSelector('#fetch[data-state="done"]');
    // An image that is shown has a size of its own.
    await bob.waitForFunction(() => document.querySelector('#preview-body img')?.naturalWidth === 640);
  });

  test('saving hands over the same bytes', async () => {
    const download = bob.waitForEvent('download');
    await bob.click('#preview-actions button[aria-label^="Save"]');
    assert.equal(await readFile(await (await download).path(), 'utf8'), SVG);
  });

  test('markup of another peer is shown as text', async () => {
    await bob.click(`#peer-tree .file[data-path=${JSON.stringify(HOSTILE)}] button.name`);
    await bob.waitForSelector('#preview-body pre');
    assert.equal(await bob.textContent('#preview-body pre'), '<script>document.title = 1</script>');
    assert.equal(await bob.title(), 'tabpeer');
    assert.equal(await bob.locator('#peer-tree img').count(), 0);
  });

  test('a file of some length is got with progress, and can be cancelled', async () => {
    const file = await noiseFile(stage.folder, 'long.bin', 12_000_000, 71);
    const long = await stage.relay.add(file, { profile: 'unixfs-v1-2025' });
    await bob.fill('#get input[name="cid"]', long);
    await bob.fill('#get input[name="from"]', '');
    await bob.evaluate(() => {
      globalThis.seen = [];
      new MutationObserver(() => seen.push(document.querySelector('#fetch progress')?.value)).observe(document.querySelector('#fetch'), {
        subtree: true,
        childList: true,
        characterData: true,
      });
    });
    await bob.click('#get button');
    await bob.click('#fetch button');
    await bob.waitForSelector('#fetch[data-state="failed"]');
    assert.match(await bob.textContent('#fetch'), /Cancelled/);
    await bob.click('#get button');
    await bob.waitForSelector('#fetch[data-state="done"]');
    assert.match(await bob.textContent('#fetch'), /Got 12.* from others .*verified and kept/);
    const values = await bob.evaluate(() => seen);
    assert.ok(values.some((value) => value > 0 && value < 12_000_000), `progress was ${values.join(' ')}`);
    await bob.selectOption('#get select', 'local');
    await bob.click('#get button');
    await bob.waitForFunction(() => /Read 12.* from this browser/.test(document.querySelector('#fetch').textContent));
    await bob.selectOption('#get select', '');
  });

  test('sound is played', async () => {
    const wav = path.join(stage.folder, 'tone.wav');
    await writeFile(wav, tone(8000));
    const cid = await stage.relay.add(wav, { profile: 'unixfs-v1-2025' });
    await bob.fill('#get input[name="cid"]', cid);
    await bob.click('#get button');
    await bob.waitForFunction(() => document.querySelector('#preview-body audio')?.duration === 1);
  });

  test('a multiaddr is dialled', async () => {
    await bob.fill('#dial input', stage.relay.address('ws'));
    await bob.click('#dial button');
    await bob.waitForFunction(() => /^Connected with/.test(document.querySelector('#dialled').textContent));
    assert.equal(await bob.inputValue('#browse input'), stage.relay.peerId);
    await bob.fill('#dial input', 'nonsense');
    await bob.click('#dial button');
    await bob.waitForSelector('#dialled .problem');
    assert.match(await bob.textContent('#dialled'), /not an address/);
  });

  test('a link opens the file', async () => {
    const id = await alice.getAttribute('#peer-id', 'data-id');
    const carol = await visit({});
    await carol.goto(`${stage.origin}/#get=${cid}&from=${id}`);
    await carol.waitForFunction(() => document.querySelector('#preview-body img')?.naturalWidth === 640);
    await carol.context().close();
  });

  test('errors are said in words', async () => {
    await bob.fill('#get input[name="cid"]', 'nonsense');
    await bob.click('#get button');
    await bob.waitForSelector('#fetch[data-state="failed"]');
    assert.match(await bob.textContent('#fetch .problem p'), /That is not a CID/);
    assert.match(await bob.textContent('#fetch details'), /INVALID_CID/);
  });

  test('a file is removed after a question', async () => {
    await alice.click('#my-tree .file[data-path="dropped.txt"] button[aria-label^="Remove"]');
    await alice.click('#question-yes');
    await alice.waitForSelector('#my-tree .file[data-path="dropped.txt"]', { state: 'detached' });
  });

  test('everything can be reached by keyboard and has a name', async () => {
    const nameless = await alice.evaluate(() =>
      [...document.querySelectorAll('button, input, select, summary, progress, iframe')]
        .filter((control) => !(control.labels?.length || control.ariaLabel || control.textContent.trim() || control.title))
        .map((control) => control.outerHTML.slice(0, 120)),
    );
    assert.deepEqual(nameless, []);
    await alice.focus('#new-folder input');
    await alice.keyboard.press('Tab');
    assert.equal(await alice.evaluate(() => document.activeElement.textContent), 'Make folder');
  });

  test('it fits a telephone, and has its picture taken', async () => {
    await bob.click(`#peer-tree .file[data-cid="${cid}"] button.name`);
    await bob.waitForFunction(() => document.querySelector('#preview-body img')?.naturalWidth === 640);
    for (const [name, page, width] of [['page-light', alice, 1180], ['page-dark', bob, 1180], ['page-phone', bob, 390]]) {
      await page.setViewportSize({ width, height: 900 });
      await page.evaluate(() => scrollTo(0, 0));
      await writeFile(path.join(OUTPUT, `${name}.png`), await page.screenshot({ fullPage: true }));
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} scrolls sideways`);
    }
  });

  test('nothing went wrong on the way', () => assert.deepEqual(problems, []));
});
