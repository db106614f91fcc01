// How fast the package fetches from a relay's store, beside the plain streams below it and Helia in the same run.
//
// Every fetch is by a fresh browser profile on disk: nothing is stored yet, and what comes goes to the disk. The
// figures are medians of the fetches that completed; one of the package's own that does not fails the bench. Fewer
// runs: TABPEER_BENCH_RUNS, TABPEER_BENCH_HELIA_RUNS, TABPEER_BENCH_STREAM_MIB, TABPEER_BENCH_PARTS.

import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { noiseFile } from '../e2e/fixtures.mjs';
import { PROFILE } from '../e2e/harness.mjs';
import { Relay } from '../e2e/relay.mjs';
import { Figures, line, setting } from './figures.mjs';
import { growth } from './memory.mjs';
import { Site } from './site.mjs';

const MIB = 1024 * 1024;
const SIZE = 100 * MIB;
const SMALL = { count: 1000, size: 10 * 1024 };
/** Of each transport. */
const RUNS = setting('TABPEER_BENCH_RUNS', 10);
const HELIA_RUNS = setting('TABPEER_BENCH_HELIA_RUNS', 5);
/** Runs of what takes long and varies little. */
const FEW_RUNS = Math.min(RUNS, 3);
const STREAMED = setting('TABPEER_BENCH_STREAM_MIB', 1024) * MIB;
const PROVIDERS = 3;
/** Work that is slower than this counts as stalled: 2.6 MB/s. */
const STALLED_MS_PER_100_MIB = 40_000;
const TRANSPORTS = ['webtransport', 'ws'];
/** Only these parts, by name; all if unset. */
const PARTS = { transports, providers, directory, memory };
const CHOSEN = process.env.TABPEER_BENCH_PARTS?.split(',') ?? Object.keys(PARTS);

const HELIA = 'Helia over ws, 100 MiB into IndexedDB';
const MEMORY = `renderer memory above idle while streaming ${STREAMED / MIB} MiB (MB)`;
const MEMORY_IN_PIECES = `the same, each piece a new array (MB)`;
const plain = (transport) => `plain stream over ${transport}, 100 MiB`;
const stored = (transport) => `tabpeer over ${transport}, 100 MiB stored`;
const asArray = (transport) => `tabpeer over ${transport}, 100 MiB stored and as one array`;
const inPieces = (transport) => `tabpeer over ${transport}, 100 MiB stored, each piece a new array`;
const several = (count) => `tabpeer over webtransport, 100 MiB of ${count} ${count === 1 ? 'provider' : 'providers'}`;
const smallFiles = (transport) => `tabpeer over ${transport}, a directory of 1000 files of 10 KiB (files/s)`;

const unknown = CHOSEN.filter((name) => !Object.hasOwn(PARTS, name));
if (unknown.length > 0) throw new Error(`TABPEER_BENCH_PARTS: no part ${unknown}; there are: ${Object.keys(PARTS)}`);

const figures = new Figures('MB/s unless another unit is named');
/** Of each kind of fetch, how many were tried and how many completed. */
const completed = new Map();
const relays = [];
const site = await Site.open('transfer');
try {
  for (let at = 0; at < PROVIDERS; at += 1) {
    const program = process.env.TABPEER_BENCH_RELAY;
    relays.push(await Relay.start({ site: site.bundle, program, adder: process.env.TABPEER_RELAY }));
  }
  const file = await noiseFile(site.folder, 'hundred.bin', SIZE, 42);
  const cids = await Promise.all(relays.map((relay) => relay.add(file, { profile: PROFILE })));
  for (const name of CHOSEN) await PARTS[name](cids[0]);
  report();
} finally {
  await Promise.all(relays.map((relay) => relay.stop()));
  await site.close();
}

/** The package, the plain stream and Helia in turn, since a shared machine changes. */
async function transports(cid) {
  const [relay] = relays;
  for (let run = 1; run <= RUNS; run += 1) {
    for (const transport of TRANSPORTS) {
      const address = relay.address(transport);
      await attempt(plain(transport), SIZE, async ({ call, quiet }) => {
        await call('open', []);
        await quiet();
        return rate(await call('raw', { address, size: SIZE }));
      });
      await attempt(stored(transport), SIZE, async ({ call, quiet }) => {
        await call('open', [address]);
        await quiet();
        return rate(await call('stream', { cid, size: SIZE }));
      });
    }
    if (run <= HELIA_RUNS) {
      await attempt(HELIA, SIZE, async ({ call, quiet }) => {
        await call('openHelia', [relay.address('ws')]);
        await quiet();
        return rate(await call('helia', { cid, size: SIZE }));
      });
    }
  }
  for (let run = 0; run < FEW_RUNS; run += 1) {
    for (const transport of TRANSPORTS) {
      for (const [name, how] of [[inPieces, 'pieces'], [asArray, 'whole']]) {
        await attempt(name(transport), SIZE, async ({ call, quiet }) => {
          await call('open', [relay.address(transport)]);
          await quiet();
          return rate(await call(how, { cid, size: SIZE }));
        });
      }
    }
  }
}

/** In turn with one provider; as fast as each other, so that few runs would not tell them apart. */
async function providers(cid) {
  for (let run = 0; run < RUNS; run += 1) {
    for (const count of [1, PROVIDERS]) {
      const addresses = relays.slice(0, count).map((relay) => relay.address('webtransport'));
      await attempt(several(count), SIZE, async ({ call, quiet }) => {
        await call('open', addresses);
        await quiet();
        return rate(await call('stream', { cid, size: SIZE }));
      });
    }
  }
}

async function directory() {
  const [relay] = relays;
  const files = path.join(site.folder, 'files');
  await mkdir(files);
  for (let at = 0; at < SMALL.count; at += 1) await writeFile(path.join(files, `${at}.bin`), randomBytes(SMALL.size));
  const cid = await relay.add(files, { profile: PROFILE });
  for (let run = 0; run < FEW_RUNS; run += 1) {
    for (const transport of TRANSPORTS) {
      await attempt(smallFiles(transport), SIZE, async ({ call, quiet }) => {
        await call('open', [relay.address(transport)]);
        await quiet();
        return SMALL.count / (await call('directory', { cid, ...SMALL }));
      });
    }
  }
}

async function memory() {
  const [relay] = relays;
  const large = await noiseFile(site.folder, 'large.bin', STREAMED, 43);
  const cid = await relay.add(large, { profile: PROFILE });
  await rm(large);
  for (const [name, how] of [[MEMORY, 'stream'], [MEMORY_IN_PIECES, 'pieces']]) {
    const title = `tabpeer over webtransport, ${STREAMED / MIB} MiB stored${how === 'pieces' ? ', each piece a new array' : ''}`;
    await attempt(title, STREAMED, async ({ browser, call, profile, quiet }) => {
      await call('open', [relay.address('webtransport')]);
      await browser.collectGarbage();
      await quiet();
      let seconds;
      const grown = await growth(profile, async () => {
        seconds = await call(how, { cid, size: STREAMED });
      });
      figures.record(name, grown / 1e6);
      return rate(seconds, STREAMED);
    });
  }
}

/** One fetch of `size` bytes at most, which says its figure; whether it completes is counted. */
async function attempt(name, size, fetch) {
  const count = completed.get(name) ?? { runs: 0, complete: 0 };
  completed.set(name, count);
  count.runs += 1;
  await site.inFreshBrowser(async (visit) => {
    const patience = Math.max(1, size / (100 * MIB)) * STALLED_MS_PER_100_MIB;
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`it stalled: nothing after ${patience / 1000} s`)), patience);
    });
    try {
      figures.record(name, await Promise.race([fetch(visit), late]));
      count.complete += 1;
    } catch (error) {
      console.log(line('–', `${name}: ${error.message}`));
    } finally {
      clearTimeout(timer);
    }
  });
}

/** MB/s. */
function rate(seconds, size = SIZE) {
  return size / 1e6 / seconds;
}

function report() {
  figures.print();
  console.log(`\nruns that completed (within ${STALLED_MS_PER_100_MIB / 1000} s for 100 MiB)`);
  for (const [name, { runs, complete }] of completed) console.log(line(`${complete} of ${runs}`, name));
  const total = (key) => TRANSPORTS.reduce((sum, transport) => sum + (completed.get(stored(transport))?.[key] ?? 0), 0);
  console.log(line(`${total('complete')} of ${total('runs')}`, `tabpeer over ${TRANSPORTS.join(' and ')} together, 100 MiB stored`));
  console.log('\nagainst the targets');
  const of = (name) => figures.median(name);
  figures.target('WebTransport / its plain stream', of(stored('webtransport')) / of(plain('webtransport')), 0.7);
  figures.target('WebTransport, MB/s', of(stored('webtransport')), 25);
  figures.target('WebSocket, MB/s', of(stored('ws')), 20);
  figures.target('WebTransport / Helia over WebSocket', of(stored('webtransport')) / of(HELIA), 2);
  figures.target('WebSocket / Helia over WebSocket', of(stored('ws')) / of(HELIA), 2);
  figures.target('fetches of 100 MiB that completed, of all', total('complete') / total('runs'), 1);
  figures.target('three providers / one', of(several(PROVIDERS)) / of(several(1)), 1);
  for (const transport of TRANSPORTS) {
    figures.target(`1000 small files over ${transport}, files/s`, of(smallFiles(transport)), 300);
  }
  figures.target(`renderer memory above idle while streaming ${STREAMED / MIB} MiB, MB`, of(MEMORY), 150, { at: 'most' });
  figures.verdict();
  for (const [name, { runs, complete }] of completed) if (name !== HELIA && complete < runs) process.exitCode = 1;
}
