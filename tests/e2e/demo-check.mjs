// `cargo xtask demo --check`: two Chromium processes, one relay, a real file, and every step said aloud.

import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { launch, watchTransports } from './browser.mjs';
import { realBinary, sha256 } from './fixtures.mjs';
import { Relay } from './relay.mjs';

const STEP_MS = 60_000;
const started = performance.now();
const cleanups = [];

try {
  await main();
  say(`done: all steps in ${seconds(started)} s`);
} catch (error) {
  say(`FAILED: ${error.stack ?? error}`);
  process.exitCode = 1;
} finally {
  for (const cleanup of cleanups.reverse()) await cleanup().catch((error) => say(String(error)));
}

async function main() {
  const folder = await mkdtemp(path.join(tmpdir(), 'tabpeer-demo-'));
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  const file = await realBinary(folder);
  const expected = await sha256(file);
  say(`file: the first 5000000 bytes of ${path.basename(process.execPath)}, sha256 ${expected.slice(0, 16)}…`);

  const relay = await Relay.start({ site: process.env.TABPEER_SITE });
  cleanups.push(() => relay.stop());
  say(`relay ${relay.peerId} at ${relay.http}`);

  for (const transport of ['ws', 'webtransport']) {
    say(`— over ${transport}: ${relay.address(transport)}`);
    const [a, b] = await Promise.all([visit(relay, transport, 'A'), visit(relay, transport, 'B')]);

    let clock = performance.now();
    await a.page.setInputFiles('#pick', file);
    const row = await a.page.waitForSelector('#uploads li[data-cid]');
    const cid = await row.getAttribute('data-cid');
    say(`A stored program.bin: CID ${cid}, 5000000 bytes in ${seconds(clock)} s`);

    clock = performance.now();
    await b.page.fill('#browse input', a.id);
    await b.page.click('#browse button');
    await b.page.waitForSelector(`#peer-tree .file[data-cid="${cid}"]`);
    say(`B listed the files of A in ${seconds(clock)} s`);

    clock = performance.now();
    await b.page.fill('#get input[name="cid"]', cid);
    await b.page.fill('#get input[name="from"]', a.id);
    await b.page.click('#get button');
    await b.page.waitForSelector('#fetch[data-state="done"], #fetch[data-state="failed"]');
    const outcome = await b.page.getAttribute('#fetch', 'data-state');
    if (outcome !== 'done') throw new Error(await b.page.textContent('#fetch'));
    const took = seconds(clock);
    const download = b.page.waitForEvent('download');
    await b.page.click('#preview-actions button[aria-label^="Save"]');
    const bytes = await readFile(await (await download).path());
    const digest = createHash('sha256').update(bytes).digest('hex');
    if (digest !== expected) throw new Error(`B got other bytes: sha256 ${digest}`);
    say(`B got it from A through the relay: ${bytes.length} bytes in ${took} s, ${(bytes.length / 1e6 / took).toFixed(1)} MB/s, bytes equal`);

    clock = performance.now();
    for (const { page } of [a, b]) await page.click('#parts a[data-part="talk"]');
    await a.page.waitForSelector(`#here-list li[data-id="${b.id}"]`);
    await a.page.fill('#text', 'Hello, everybody!');
    await a.page.press('#text', 'Enter');
    await b.page.waitForSelector('.message[data-mine="false"] .text:text-is("Hello, everybody!")');
    await b.page.click(`#here-list li[data-id="${a.id}"] a`);
    await b.page.fill('#text', 'Hello, A.');
    await b.page.press('#text', 'Enter');
    await b.page.waitForSelector('.message[data-state="delivered"]');
    say(`A and B met in the lobby, B heard A, and a message of B's was acknowledged by A: ${seconds(clock)} s`);

    for (const { name, opened } of [a, b]) {
      const kinds = [...new Set(opened.map((connection) => connection.transport))];
      if (kinds.join() !== transport) throw new Error(`${name} used ${kinds.join(' and ') || 'no connection'} instead of ${transport}`);
    }
    say(`both browsers opened ${transport} connections only`);
    await Promise.all([a.browser.close(), b.browser.close()]);
  }
}

async function visit(relay, transport, name) {
  const clock = performance.now();
  const browser = await launch();
  cleanups.push(() => browser.close());
  const page = await browser.newPage();
  page.setDefaultTimeout(STEP_MS);
  page.on('pageerror', (error) => say(`${name}: ${error.message}`));
  const opened = await watchTransports(page);
  await page.goto(`${relay.http}/?relay=${encodeURIComponent(relay.address(transport))}#files`);
  await page.waitForSelector('body[data-ready]');
  await page.waitForSelector('#status[data-state="online"]');
  const id = await page.getAttribute('#peer-id', 'data-id');
  say(`${name} is ${id}, connected over ${opened.at(-1)?.transport ?? '?'} after ${seconds(clock)} s`);
  return { name, browser, page, opened, id };
}

function seconds(since) {
  return ((performance.now() - since) / 1000).toFixed(2);
}

function say(text) {
  console.log(`[${seconds(started).padStart(7)} s] ${text}`);
}
