// How fast the package stores and reads, beside what the browser itself and Helia do in the same run.
//
// Every run has a fresh browser profile on disk for each figure; the order is the same in each, the figures are medians.
// Fewer runs: TABPEER_BENCH_RUNS.

import { noiseFile } from '../e2e/fixtures.mjs';
import { Figures, line, setting } from './figures.mjs';
import { growth } from './memory.mjs';
import { Site } from './site.mjs';

const RUNS = setting('TABPEER_BENCH_RUNS', 5);
const MIB = 1024 * 1024;
const SIZE = 100 * MIB;
const SMALL = { count: 1000, size: 10 * 1024 };
/** Blocks of 1 MiB, as Helia makes them too. */
const DEFAULT = 'unixfs-v1-2025';
/** Blocks of 256 KiB. */
const KUBO = 'kubo-v1-raw';

/**
 * The target beside Helia is twice what Helia 7 reached of plain puts, one a transaction, when the target was set. What
 * it reaches in this run is printed below it.
 */
const HELIA_SHARE = 0.72;

const PLAIN = {
  batched: 'plain IndexedDB, 1 MiB, 64 puts a transaction',
  read: 'plain IndexedDB, 1 MiB, read one by one',
  single: 'plain IndexedDB, 1 MiB, one put a transaction',
  quarter: 'plain IndexedDB, 256 KiB, 64 puts a transaction',
  small: 'plain IndexedDB, 10 KiB, 64 puts a transaction (puts/s)',
};
const HELIA = {
  array: 'Helia importer + blockstore-idb, 100 MiB',
  file: 'Helia importer + blockstore-idb, 100 MiB File read from the disk',
};
const OURS = {
  array: `tabpeer storeFile ${DEFAULT}, 100 MiB`,
  kubo: `tabpeer storeFile ${KUBO}, 100 MiB`,
  file: `tabpeer storeFile ${DEFAULT}, 100 MiB File read from the disk`,
  read: 'tabpeer getFile, 100 MiB',
  small: 'tabpeer 1000 files of 10 KiB (files/s)',
  memory: 'renderer memory above idle while storing 100 MiB (MB)',
};

const figures = new Figures('MB/s unless another unit is named');
const site = await Site.open('page');
try {
  const file = await noiseFile(site.folder, 'hundred.bin', SIZE, 42);
  for (let run = 1; run <= RUNS; run += 1) {
    console.log(`run ${run} of ${RUNS}`);
    await oneRun(file);
  }
  report();
} finally {
  await site.close();
}

async function oneRun(file) {
  const visit = (work) =>
    site.inFreshBrowser(async (visit) => {
      await visit.browser.choose('#file', file);
      await visit.quiet();
      await work(visit);
    });
  await visit(async ({ call }) => {
    const batched = await call('plainPuts', { size: MIB, count: SIZE / MIB, together: 64, readBack: true });
    figures.record(PLAIN.batched, rate(batched.put));
    figures.record(PLAIN.read, rate(batched.get));
    const single = await call('plainPuts', { size: MIB, count: SIZE / MIB, together: 1 });
    figures.record(PLAIN.single, rate(single.put));
    const quarter = await call('plainPuts', { size: MIB / 4, count: (4 * SIZE) / MIB, together: 64 });
    figures.record(PLAIN.quarter, rate(quarter.put));
    const small = await call('plainPuts', { ...SMALL, together: 64 });
    figures.record(PLAIN.small, SMALL.count / small.put);
  });
  for (const inMemory of [true, false]) {
    const how = inMemory ? 'array' : 'file';
    let theirs;
    await visit(async ({ call }) => {
      theirs = await call('helia', { inMemory });
      figures.record(HELIA[how], rate(theirs.seconds));
    });
    await visit(async ({ call }) => {
      await call('open');
      const stored = await call('storeFile', { profile: DEFAULT, path: 'hundred.bin', inMemory });
      figures.record(OURS[how], rate(stored.seconds));
      if (stored.cid !== theirs.cid) throw new Error(`${stored.cid} and Helia's ${theirs.cid}: not the same work`);
      if (!inMemory) return;
      figures.record(OURS.read, rate(await call('readBack', { cid: stored.cid, size: SIZE })));
      await call('remove', { path: 'hundred.bin' });
      figures.record(OURS.small, SMALL.count / (await call('smallFiles', SMALL)));
    });
  }
  await visit(async ({ call }) => {
    await call('open');
    const stored = await call('storeFile', { profile: KUBO, path: 'hundred.bin', inMemory: true });
    figures.record(OURS.kubo, rate(stored.seconds));
  });
  await visit(async ({ browser, call, profile, quiet }) => {
    await call('open');
    await browser.collectGarbage();
    await quiet();
    const grown = await growth(profile, () => call('storeFile', { profile: DEFAULT, path: 'hundred.bin' }));
    figures.record(OURS.memory, grown / 1e6);
  });
}

/** MB/s of the large file. */
function rate(seconds) {
  return SIZE / 1e6 / seconds;
}

function report() {
  figures.print();
  console.log('\nagainst the targets');
  const of = (name) => figures.median(name);
  figures.target(`${DEFAULT} / plain batched puts of 1 MiB`, of(OURS.array) / of(PLAIN.batched), 0.8);
  figures.target(`${KUBO} / plain batched puts of 256 KiB`, of(OURS.kubo) / of(PLAIN.quarter), 0.8);
  figures.target(`${DEFAULT} / ${HELIA_SHARE} of plain puts, one a transaction`, of(OURS.array) / (HELIA_SHARE * of(PLAIN.single)), 2);
  figures.target('1000 files of 10 KiB as one batch, files/s', of(OURS.small), 2000);
  figures.target('renderer memory above idle, MB', of(OURS.memory), 150, { at: 'most' });
  figures.verdict();
  console.log('\nbeside Helia in this run (no target)');
  console.log(line((of(OURS.array) / of(HELIA.array)).toFixed(2), 'from memory'));
  console.log(line((of(OURS.file) / of(HELIA.file)).toFixed(2), 'from a File on the disk'));
  console.log(line((of(HELIA.array) / of(PLAIN.single)).toFixed(2), `Helia / plain puts, one a transaction (the target takes ${HELIA_SHARE})`));
}
