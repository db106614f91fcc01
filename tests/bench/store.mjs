// How fast the package stores and reads, beside what the browser itself and Helia do in the same run.
//
// Every run has a fresh browser profile on disk; the order is the same in each, the figures are medians.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { launchPersistent } from '../e2e/browser.mjs';
import { noiseFile } from '../e2e/fixtures.mjs';
import { PKG, serveFolder } from '../e2e/harness.mjs';
import { growth } from './memory.mjs';

const RUNS = Number(process.env.TABPEER_BENCH_RUNS ?? 5);
const MIB = 1024 * 1024;
const SIZE = 100 * MIB;
const SMALL = { count: 1000, size: 10 * 1024 };
const DEFAULT = 'unixfs-v1-2025';
const KUBO = 'kubo-v1-raw';

/** What Helia reached of one put per transaction, when the targets were set. */
const HELIA_SHARE = 0.72;

const folder = await mkdtemp(path.join(tmpdir(), 'tabpeer-bench-'));
const figures = new Map();
let server;
try {
  const site = path.join(folder, 'site');
  await build({
    root: fileURLToPath(new URL('page', import.meta.url)),
    configFile: false,
    logLevel: 'error',
    resolve: { alias: { tabpeer: path.join(PKG, 'index.js') } },
    build: { outDir: site, target: 'es2022', assetsInlineLimit: 0 },
  });
  server = await serveFolder(site);
  const file = await noiseFile(folder, 'hundred.bin', SIZE, 42);
  for (let run = 1; run <= RUNS; run += 1) {
    console.log(`run ${run} of ${RUNS}`);
    await oneRun(file);
  }
  report();
} finally {
  await server?.close();
  await rm(folder, { recursive: true, force: true });
}

async function oneRun(file) {
  await inFreshBrowser(file, async ({ call }) => {
    const batched = await call('plainPuts', { size: MIB, count: SIZE / MIB, together: 64, readBack: true });
    record('plain IndexedDB, 1 MiB, 64 puts a transaction', rate(batched.put));
    record('plain IndexedDB, 1 MiB, read one by one', rate(batched.get));
    const single = await call('plainPuts', { size: MIB, count: SIZE / MIB, together: 1 });
    record('plain IndexedDB, 1 MiB, one put a transaction', rate(single.put));
    const quarter = await call('plainPuts', { size: MIB / 4, count: (4 * SIZE) / MIB, together: 64 });
    record('plain IndexedDB, 256 KiB, 64 puts a transaction', rate(quarter.put));
    const small = await call('plainPuts', { ...SMALL, together: 64 });
    record('plain IndexedDB, 10 KiB, 64 puts a transaction (puts/s)', SMALL.count / small.put);
  });
  await inFreshBrowser(file, async ({ call }) => {
    record('Helia importer + blockstore-idb, 100 MiB', rate(await call('helia')));
  });
  await inFreshBrowser(file, async ({ call }) => {
    await call('open');
    const stored = await call('storeFile', { profile: DEFAULT, path: 'hundred.bin', inMemory: true });
    record(`tabpeer storeFile ${DEFAULT}, 100 MiB`, rate(stored.seconds));
    record('tabpeer getFile, 100 MiB', rate(await call('readBack', { cid: stored.cid, size: SIZE })));
    await call('remove', { path: 'hundred.bin' });
    record('tabpeer 1000 files of 10 KiB (files/s)', SMALL.count / (await call('smallFiles', SMALL)));
  });
  await inFreshBrowser(file, async ({ call }) => {
    await call('open');
    const stored = await call('storeFile', { profile: KUBO, path: 'hundred.bin', inMemory: true });
    record(`tabpeer storeFile ${KUBO}, 100 MiB`, rate(stored.seconds));
  });
  await inFreshBrowser(file, async ({ call }) => {
    await call('open');
    const stored = await call('storeFile', { profile: DEFAULT, path: 'hundred.bin' });
    record(`tabpeer storeFile ${DEFAULT}, 100 MiB File read from the disk`, rate(stored.seconds));
  });
  await inFreshBrowser(file, async ({ call, profile, collectGarbage }) => {
    await call('open');
    await collectGarbage();
    const grown = await growth(profile, () => call('storeFile', { profile: DEFAULT, path: 'hundred.bin' }));
    record('renderer memory above idle while storing 100 MiB (MB)', grown / 1e6);
  });
}

async function inFreshBrowser(file, work) {
  const profile = await mkdtemp(path.join(folder, 'profile-'));
  const context = await launchPersistent(profile);
  try {
    const page = context.pages()[0] ?? (await context.newPage());
    page.setDefaultTimeout(120_000);
    await page.goto(server.origin);
    await page.waitForFunction(() => globalThis.bench !== undefined);
    await page.setInputFiles('#file', file);
    const devtools = await context.newCDPSession(page);
    await work({
      profile,
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
  if (!figures.has(name)) figures.set(name, []);
  figures.get(name).push(value);
}

function median(name) {
  const sorted = [...figures.get(name)].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function report() {
  console.log(`\nmedians of ${RUNS} runs (MB/s unless another unit is named; lowest and highest in brackets)`);
  for (const [name, values] of figures) {
    const range = `[${Math.min(...values).toFixed(1)} … ${Math.max(...values).toFixed(1)}]`;
    console.log(`${median(name).toFixed(1).padStart(9)}  ${name} ${range}`);
  }
  const batched = median('plain IndexedDB, 1 MiB, 64 puts a transaction');
  const quarter = median('plain IndexedDB, 256 KiB, 64 puts a transaction');
  const single = median('plain IndexedDB, 1 MiB, one put a transaction');
  const ours = median(`tabpeer storeFile ${DEFAULT}, 100 MiB`);
  const kubo = median(`tabpeer storeFile ${KUBO}, 100 MiB`);
  const helia = median('Helia importer + blockstore-idb, 100 MiB');
  console.log('\nagainst the targets');
  target(`${DEFAULT} / plain batched puts of 1 MiB`, ours / batched, 0.8);
  target(`${KUBO} / plain batched puts of 256 KiB`, kubo / quarter, 0.8);
  target(`${DEFAULT} / Helia's share (${HELIA_SHARE}) of one put a transaction`, ours / (HELIA_SHARE * single), 2);
  target('1000 files of 10 KiB as one batch, files/s', median('tabpeer 1000 files of 10 KiB (files/s)'), 2000);
  target('renderer memory above idle, MB', median('renderer memory above idle while storing 100 MiB (MB)'), 150, false);
  const fromDisk = median(`tabpeer storeFile ${DEFAULT}, 100 MiB File read from the disk`);
  console.log(`${(fromDisk / helia).toFixed(2).padStart(9)}  the same File / Helia in the same run (no target)`);
}

function target(name, value, limit, atLeast = true) {
  const met = atLeast ? value >= limit : value <= limit;
  const digits = limit >= 100 ? 0 : 2;
  const sign = atLeast ? '≥' : '≤';
  console.log(`${value.toFixed(digits).padStart(9)}  ${name}: target ${sign} ${limit}: ${met ? 'met' : 'NOT MET'}`);
}
