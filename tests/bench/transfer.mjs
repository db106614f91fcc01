// How fast the package fetches from a relay's store, beside the plain streams below it and Helia in the same run.
//
// Every fetch is by a fresh browser profile on disk: nothing is stored yet, and what comes goes to the disk. The
// figures are medians. Fewer runs: TABPEER_BENCH_RUNS, TABPEER_BENCH_HELIA_RUNS, TABPEER_BENCH_STREAM_MIB.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { launchPersistent } from '../e2e/browser.mjs';
import { noiseFile } from '../e2e/fixtures.mjs';
import { PKG, serveFolder } from '../e2e/harness.mjs';
import { Relay } from '../e2e/relay.mjs';
import { Figures } from './figures.mjs';
import { growth } from './memory.mjs';

const MIB = 1024 * 1024;
const SIZE = 100 * MIB;
const PROFILE = 'unixfs-v1-2025';
const SMALL = { count: 1000, size: 10 * 1024 };
/** Of each transport. */
const RUNS = Number(process.env.TABPEER_BENCH_RUNS ?? 10);
const HELIA_RUNS = Number(process.env.TABPEER_BENCH_HELIA_RUNS ?? 5);
const STREAMED = Number(process.env.TABPEER_BENCH_STREAM_MIB ?? 1024) * MIB;
/** Only these parts, by name; all if unset. */
const PARTS = process.env.TABPEER_BENCH_PARTS?.split(',');
const PROVIDERS = 3;
/** A fetch that takes longer counts as stalled. */
const STALLED_MS = 40_000;
const TRANSPORTS = ['webtransport', 'ws'];

const figures = new Figures('MB/s unless another unit is named');
const completed = new Map();
const folder = await mkdtemp(path.join(tmpdir(), 'tabpeer-bench-'));
const relays = [];
let server;
try {
  const site = path.join(folder, 'site');
  await build({
    root: fileURLToPath(new URL('transfer', import.meta.url)),
    configFile: false,
    logLevel: 'error',
    resolve: { alias: { 'tabpeer/raw': path.join(PKG, 'tabpeer.js'), tabpeer: path.join(PKG, 'index.js') } },
    build: { outDir: site, target: 'es2022', assetsInlineLimit: 0 },
  });
  server = await serveFolder(site);
  for (let at = 0; at < PROVIDERS; at += 1) {
    const program = process.env.TABPEER_BENCH_RELAY;
    relays.push(await Relay.start({ site, program, adder: process.env.TABPEER_RELAY }));
  }
  const file = await noiseFile(folder, 'hundred.bin', SIZE, 42);
  const cids = await Promise.all(relays.map((relay) => relay.add(file, { profile: PROFILE })));
  const parts = { transports, providers, directory, memory };
  for (const [name, part] of Object.entries(parts)) if (PARTS?.includes(name) ?? true) await part(cids[0]);
  report();
} finally {
  await server?.close();
  await Promise.all(relays.map((relay) => relay.stop()));
  await rm(folder, { recursive: true, force: true });
}

async function transports(cid) {
  const [relay] = relays;
  for (let run = 1; run <= RUNS; run += 1) {
    for (const transport of TRANSPORTS) {
      const address = relay.address(transport);
      await inFreshBrowser(async ({ call }) => {
        await call('open', []);
        record(`plain stream over ${transport}, 100 MiB`, rate(await call('raw', { address, size: SIZE })));
      });
      await attempt(`tabpeer over ${transport}, 100 MiB into IndexedDB`, async ({ call }) => {
        await call('open', [address]);
        return call('stream', { cid, size: SIZE });
      });
    }
    if (run <= HELIA_RUNS) {
      await attempt('Helia over ws, 100 MiB into IndexedDB', async ({ call }) => {
        await call('openHelia', [relay.address('ws')]);
        return call('helia', { cid, size: SIZE });
      });
    }
  }
  for (const transport of TRANSPORTS) {
    await attempt(`tabpeer over ${transport}, 100 MiB into IndexedDB and as one array`, async ({ call }) => {
      await call('open', [relay.address(transport)]);
      return call('whole', { cid, size: SIZE });
    });
  }
}

/** Alternately with one provider, since a shared machine changes. */
async function providers(cid) {
  for (let run = 0; run < Math.min(RUNS, 3); run += 1) {
    for (const count of [1, PROVIDERS]) {
      await attempt(`tabpeer over webtransport, 100 MiB of ${count} providers`, async ({ call }) => {
        await call('open', relays.slice(0, count).map((relay) => relay.address('webtransport')));
        return call('stream', { cid, size: SIZE });
      });
    }
  }
}

async function directory() {
  const [relay] = relays;
  const files = path.join(folder, 'files');
  await mkdir(files);
  for (let at = 0; at < SMALL.count; at += 1) await writeFile(path.join(files, `${at}.bin`), randomBytes(SMALL.size));
  const cid = await relay.add(files, { profile: PROFILE });
  for (let run = 0; run < Math.min(RUNS, 3); run += 1) {
    for (const transport of TRANSPORTS) {
      await inFreshBrowser(async ({ call }) => {
        await call('open', [relay.address(transport)]);
        const seconds = await call('directory', { cid, count: SMALL.count });
        record(`tabpeer over ${transport}, a directory of 1000 files of 10 KiB (files/s)`, SMALL.count / seconds);
      });
    }
  }
}

async function memory() {
  const [relay] = relays;
  const large = await noiseFile(folder, 'large.bin', STREAMED, 43);
  const cid = await relay.add(large, { profile: PROFILE });
  await rm(large);
  await inFreshBrowser(async ({ call, profile, collectGarbage }) => {
    await call('open', [relay.address('webtransport')]);
    await collectGarbage();
    let seconds;
    const grown = await growth(profile, async () => {
      seconds = await call('stream', { cid, size: STREAMED });
    });
    record(`tabpeer over webtransport, ${STREAMED / MIB} MiB into IndexedDB`, STREAMED / 1e6 / seconds);
    record(`renderer memory above idle while streaming ${STREAMED / MIB} MiB (MB)`, grown / 1e6);
  });
}

/** One fetch of 100 MiB; whether it completes is counted. */
async function attempt(name, fetch) {
  const count = completed.get(name) ?? { runs: 0, complete: 0 };
  completed.set(name, count);
  count.runs += 1;
  await inFreshBrowser(async (browser) => {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('it stalled')), STALLED_MS);
    });
    try {
      record(name, rate(await Promise.race([fetch(browser), late])));
      count.complete += 1;
    } catch (error) {
      console.log(`${name}: ${error.message}`);
    } finally {
      clearTimeout(timer);
    }
  });
}

async function inFreshBrowser(work) {
  const profile = await mkdtemp(path.join(folder, 'profile-'));
  const context = await launchPersistent(profile);
  try {
    const page = context.pages()[0] ?? (await context.newPage());
    await page.goto(server.origin);
    await page.waitForFunction(() => globalThis.bench !== undefined);
    const devtools = await context.newCDPSession(page);
    await work({
      page,
      profile,
      devtools,
      call: (name, argument) => page.evaluate(([name, argument]) => globalThis.bench[name](argument), [name, argument]),
      collectGarbage: () => devtools.send('HeapProfiler.collectGarbage'),
    });
  } finally {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  }
}

/** MB/s of the large file. */
function rate(seconds) {
  return SIZE / 1e6 / seconds;
}

function record(name, value) {
  figures.record(name, value);
  console.log(`${value.toFixed(1).padStart(9)}  ${name}`);
}

function report() {
  figures.print();
  console.log('\nruns that completed');
  for (const [name, { runs, complete }] of completed) console.log(`${`${complete}/${runs}`.padStart(9)}  ${name}`);
  console.log('\nagainst the targets');
  const of = (transport) => figures.median(`tabpeer over ${transport}, 100 MiB into IndexedDB`);
  const raw = figures.median('plain stream over webtransport, 100 MiB');
  const helia = figures.median('Helia over ws, 100 MiB into IndexedDB');
  figures.target('WebTransport / its plain stream', of('webtransport') / raw, 0.7);
  figures.target('WebTransport, MB/s', of('webtransport'), 25);
  figures.target('WebSocket, MB/s', of('ws'), 20);
  figures.target('WebTransport / Helia over WebSocket', of('webtransport') / helia, 2);
  figures.target('WebSocket / Helia over WebSocket', of('ws') / helia, 2);
  const shares = TRANSPORTS.map((transport) => completed.get(`tabpeer over ${transport}, 100 MiB into IndexedDB`));
  const sum = (key) => shares.reduce((total, share) => total + (share?.[key] ?? 0), 0);
  figures.target('fetches that completed, of all', sum('complete') / sum('runs'), 1);
  const several = (count) => figures.median(`tabpeer over webtransport, 100 MiB of ${count} providers`);
  figures.target('three providers / one', several(PROVIDERS) / several(1), 1);
  for (const transport of TRANSPORTS) {
    const name = `tabpeer over ${transport}, a directory of 1000 files of 10 KiB (files/s)`;
    figures.target(`1000 small files over ${transport}, files/s`, figures.median(name), 300);
  }
  const memory = `renderer memory above idle while streaming ${STREAMED / MIB} MiB (MB)`;
  figures.target('renderer memory above idle while streaming, MB', figures.median(memory), 150, false);
}
