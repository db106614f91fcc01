// A relay process of one's own: free ports, a fresh data folder, ended by its own handle.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

/** A debug build on a loaded machine makes its key and certificate in seconds. */
const READY_MS = 60_000;
const LOOPBACK = '127.0.0.1';
const execute = promisify(execFile);

export class Relay {
  #program;
  #adder;
  #site;
  #settings;
  #folder;
  #child;
  #log = [];

  /**
   * Starts a relay that serves `site`. `settings`: the text of a configuration file. `adder`: the program whose `add`
   * puts files into its store.
   */
  static async start({ site, settings = '', program = process.env.TABPEER_RELAY, adder = program }) {
    if (!program) throw new Error('TABPEER_RELAY does not name the relay program: run `cargo xtask test e2e`');
    const relay = new Relay();
    relay.#program = program;
    relay.#adder = adder;
    relay.#site = site;
    relay.#settings = settings;
    relay.#folder = await mkdtemp(path.join(tmpdir(), 'tabpeer-relay-'));
    await relay.#launch({ tcp: 0, quic: 0, ws: 0, webtransport: 0, http: 0 });
    return relay;
  }

  /** The address of one transport, fit for `connect({relays})`. */
  address(transport) {
    const found = this.addresses.find((address) => transportOf(address) === transport);
    if (!found) throw new Error(`the relay has no ${transport} address: ${this.addresses.join(' ')}`);
    return found.includes('/p2p/') ? found : `${found}/p2p/${this.peerId}`;
  }

  /** Adds a file or folder to the store of the relay that runs, and says its CID. */
  async add(file, { profile }) {
    const args = ['add', '--data-dir', path.join(this.#folder, 'data'), '--quiet', '--profile', profile, file];
    return (await execute(this.#adder, args)).stdout.trim();
  }

  /** Ends the process at once, as a power cut does. */
  async kill() {
    await this.#end('SIGKILL');
  }

  /** Stops the process where it is: its connections stand, and nothing answers. Returns what lets it go on. */
  pause() {
    const child = this.#child;
    child.kill('SIGSTOP');
    return () => child.kill('SIGCONT');
  }

  /** Starts it again with the same key, on the same ports. */
  async restart() {
    const port = (transport) => Number(/\/(?:tcp|udp)\/(\d+)/.exec(this.address(transport))?.[1]);
    await this.#launch({
      tcp: port('tcp'),
      quic: port('quic'),
      ws: port('ws'),
      webtransport: port('webtransport'),
      http: Number(new URL(this.http).port),
    });
  }

  async stop() {
    await this.#end('SIGTERM');
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #launch(ports) {
    const settings = path.join(this.#folder, 'settings.toml');
    await writeFile(settings, this.#settings);
    const args = [
      ['--config', settings],
      ['--data-dir', path.join(this.#folder, 'data')],
      ['--site', this.#site],
      ['--http', `${LOOPBACK}:${ports.http}`],
      ['--listen', `/ip4/${LOOPBACK}/tcp/${ports.tcp}`],
      ['--listen', `/ip4/${LOOPBACK}/udp/${ports.quic}/quic-v1`],
      ['--listen', `/ip4/${LOOPBACK}/tcp/${ports.ws}/ws`],
      ['--listen', `/ip4/${LOOPBACK}/udp/${ports.webtransport}/quic-v1/webtransport`],
    ];
    const child = spawn(this.#program, args.flat(), { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    createInterface(child.stderr).on('line', (line) => this.#remember(line));
    const ready = await firstJson(child, this.#log);
    this.peerId = ready.peerId;
    this.http = ready.http;
    this.addresses = ready.addresses;
  }

  #remember(line) {
    this.#log.push(line);
    if (process.env.TABPEER_CONSOLE) console.error(`[relay] ${line}`);
    if (this.#log.length > 200) this.#log.shift();
  }

  async #end(signal) {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    const hard = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await exited;
    clearTimeout(hard);
  }
}

/** 'ws', 'webtransport', 'quic', 'tcp' or undefined: the last transport that an address names. */
export function transportOf(address) {
  if (address.includes('/p2p-circuit')) return undefined;
  if (address.includes('/webtransport')) return 'webtransport';
  if (/\/wss?(\/|$)/.test(address)) return 'ws';
  if (address.includes('/quic-v1')) return 'quic';
  return address.includes('/tcp/') ? 'tcp' : undefined;
}

async function firstJson(child, log) {
  const lines = createInterface(child.stdout);
  const ready = new Promise((resolve, reject) => {
    lines.on('line', (line) => {
      try {
        const value = JSON.parse(line);
        if (value?.ready === true) resolve(value);
      } catch {
        log.push(line);
      }
    });
    child.once('error', reject);
    child.once('exit', (code, signal) => reject(new Error(`the relay ended with ${code ?? signal}\n${log.join('\n')}`)));
  });
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`the relay was not ready after ${READY_MS} ms\n${log.join('\n')}`)), READY_MS).unref();
  });
  try {
    return await Promise.race([ready, late]);
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}
