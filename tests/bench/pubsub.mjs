// How fast messages go from page to page through a relay, beside js-libp2p's gossipsub and circuits in the same run.
//
// Every page is in a browser of its own, started without Playwright. The times at which a message was sent and heard are
// by the machine's clock, which all processes share. Fewer runs: TABPEER_BENCH_RUNS, TABPEER_BENCH_PARTS.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Relay } from '../e2e/relay.mjs';
import { Figures, line, setting } from './figures.mjs';
import { Site } from './site.mjs';

const RUNS = setting('TABPEER_BENCH_RUNS', 3);
/** At 50 a second. */
const STEADY = { perSecond: 50, seconds: setting('TABPEER_BENCH_STEADY_SECONDS', 10) };
/** As fast as it goes up to a rate, which those who lose what they cannot send would else exceed without end. */
const FAST = { perSecond: 2500, seconds: setting('TABPEER_BENCH_FAST_SECONDS', 10), window: 64 };
const ROUND_TRIPS = { count: 300, warm: 20 };
/** The publishing page is one more. */
const CROWD = 49;
const CROWD_MESSAGES = 20;
const IDLE_SECONDS = setting('TABPEER_BENCH_IDLE_SECONDS', 60);
/** What a page does after it has connected is not what is measured. */
const SETTLE_MS = 15_000;
const TOPIC = 'bench/room';

/** Who is measured, over what. */
const OURS = ['ws', 'webtransport'].map((transport) => ({ kind: 'tabpeer', transport, name: `tabpeer over ${transport}` }));
const JS = { kind: 'js', transport: 'ws', name: 'js-libp2p over ws' };
const ALL = [...OURS, JS];

/** Only these parts, by name; all if unset. */
const PARTS = { latency, throughput, send, crowd, idle };
const CHOSEN = process.env.TABPEER_BENCH_PARTS?.split(',') ?? Object.keys(PARTS);
const unknown = CHOSEN.filter((name) => !Object.hasOwn(PARTS, name));
if (unknown.length > 0) throw new Error(`TABPEER_BENCH_PARTS: no part ${unknown}; there are: ${Object.keys(PARTS)}`);

const delay = (which, name) => `${name}, one way at ${STEADY.perSecond} msg/s, ${which} (ms)`;
const rate = (name) => `${name}, sustained (msg/s)`;
const lost = (name) => `${name}, sustained, lost of 1000`;
const trip = (name) => `${name}, send to acknowledged through a circuit, p50 (ms)`;
const reached = `tabpeer, one message to ${CROWD} peers, the slowest of ${CROWD_MESSAGES} (ms)`;
const cpu = (name) => `${name}, all processes of a browser with one tab, hidden and connected (% of a core)`;
const BLANK = 'the same with nothing in the tab (% of a core)';

const figures = new Figures('units are named');
const site = await Site.open('pubsub');
try {
  for (let run = 1; run <= RUNS; run += 1) {
    console.log(`run ${run} of ${RUNS}`);
    for (const name of CHOSEN) await PARTS[name]();
  }
  report();
} finally {
  await site.close();
}

/** Runs `work(first, second, relay)` with two pages that are connected with a relay and know of each other on a topic. */
async function twoPages({ kind, transport }, work) {
  const relay = await Relay.start({ site: site.bundle });
  try {
    const address = relay.address(transport);
    await site.inFreshBrowser((first) =>
      site.inFreshBrowser(async (second) => {
        for (const page of [first, second]) page.id = await page.call('open', { kind, address });
        await Promise.all([first, second].map((page) => page.call('subscribe', TOPIC)));
        await Promise.all([first, second].map((page) => page.call('present', TOPIC)));
        // A first message takes the way: streams are opened, meshes are made.
        await first.call('publishSteadily', { topic: TOPIC, perSecond: 10, seconds: 2 });
        await work(first, second);
      }),
    );
  } finally {
    await relay.stop();
  }
}

async function latency() {
  for (const who of ALL) {
    await twoPages(who, async (first, second) => {
      await second.call('forget');
      const count = await first.call('publishSteadily', { topic: TOPIC, ...STEADY });
      const { delays } = await second.call('heard', count);
      if (who !== JS && delays.length < count) throw new Error(`${who.name}: ${delays.length} of ${count} messages came`);
      figures.record(delay('p50', who.name), percentile(delays, 50));
      figures.record(delay('p99', who.name), percentile(delays, 99));
    });
  }
}

async function throughput() {
  for (const who of ALL) {
    await twoPages(who, async (first, second) => {
      await second.call('forget');
      const { count, began } = await first.call('publishFast', { topic: TOPIC, ...FAST });
      const { delays, last } = await second.call('heard', count);
      figures.record(rate(who.name), (delays.length * 1000) / (last - began));
      figures.record(lost(who.name), (1000 * (count - delays.length)) / count);
    });
  }
}

async function send() {
  for (const who of ALL) {
    await twoPages(who, async (first, second) => {
      await second.call('answer');
      const times = await first.call('roundTrips', { peer: second.id, ...ROUND_TRIPS });
      figures.record(trip(who.name), percentile(times, 50));
    });
  }
}

/** Peers of this package that run natively, in one process, as many as a full room. */
async function crowd() {
  const relay = await Relay.start({ site: site.bundle });
  const program = process.env.TABPEER_BENCH_CROWD;
  const peers = spawn(program, [relay.address('ws'), TOPIC, String(CROWD)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(peers, 'exit');
  try {
    const lines = createInterface(peers.stdout)[Symbol.asyncIterator]();
    const said = async () => {
      const { value, done } = await lines.next();
      if (done) throw new Error('the crowd has ended');
      return JSON.parse(value);
    };
    if ((await said()).ready !== true) throw new Error('the crowd is not ready');
    await site.inFreshBrowser(async ({ call }) => {
      await call('open', { kind: 'tabpeer', address: relay.address('ws') });
      await call('subscribe', TOPIC);
      await call('present', TOPIC);
      const times = [];
      for (let number = 0; number < CROWD_MESSAGES; number += 1) {
        const sent = await call('publishOne', { topic: TOPIC, number });
        const all = await said();
        if (all.number !== number) throw new Error(`message ${all.number} instead of ${number}`);
        times.push(all.at - sent);
      }
      figures.record(reached, Math.max(...times));
    });
  } finally {
    // It ends with its input.
    peers.stdin.end();
    await ended;
    await relay.stop();
  }
}

/** All of the processor's time that the browser takes with one tab that is connected, on a topic, and hidden. */
async function idle() {
  for (const who of [undefined, ...OURS]) {
    const relay = await Relay.start({ site: site.bundle });
    try {
      await site.inFreshBrowser(async ({ browser, call }) => {
        if (who) {
          await call('open', { kind: who.kind, address: relay.address(who.transport) });
          await call('subscribe', TOPIC);
        }
        await browser.hide();
        if (!(await call('hidden'))) throw new Error('the tab is not hidden');
        await pause(SETTLE_MS);
        const before = await browser.processorSeconds();
        await pause(IDLE_SECONDS * 1000);
        const used = (await browser.processorSeconds()) - before;
        figures.record(who ? cpu(who.name) : BLANK, (100 * used) / IDLE_SECONDS);
      });
    } finally {
      await relay.stop();
    }
  }
}

function percentile(values, percent) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))];
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function report() {
  figures.print();
  console.log('\nagainst the targets');
  const of = (name) => figures.median(name);
  for (const { name } of OURS) {
    figures.target(delay('p50', name), of(delay('p50', name)), 5, { at: 'most' });
    figures.target(delay('p99', name), of(delay('p99', name)), 20, { at: 'most' });
    figures.target(rate(name), of(rate(name)), 2000);
    figures.target(lost(name), of(lost(name)), 0, { at: 'most' });
    figures.target(trip(name), of(trip(name)), 5, { at: 'most' });
    figures.target(cpu(name), of(cpu(name)), 1, { at: 'most' });
  }
  figures.target(reached, of(reached), 500, { at: 'most' });
  figures.verdict();
  console.log('\nbeside js-libp2p in this run (no target)');
  for (const { name } of OURS) {
    console.log(line((of(rate(name)) / of(rate(JS.name))).toFixed(1), `${name}, messages a second / js-libp2p's`));
    console.log(line((of(delay('p50', JS.name)) / of(delay('p50', name))).toFixed(1), `js-libp2p's delay / ${name}`));
  }
}
