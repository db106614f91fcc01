// The npm package's face: loads the wasm once, turns its results into the shapes of index.d.ts
// and its failures into PeerError. Everything else happens in Rust (src/js/client.rs).
import { PeerError, now, settle } from './errors.js';
import { respond } from './fetch.js';
import { FileContent, FileStream } from './file.js';
import init, { generatePeerKey as generate, open, setSegmentsWorker } from './tabpeer.js';

export { PeerError } from './errors.js';
export { FileContent, FileStream } from './file.js';

let loading;

/** Loads the wasm module at the first call; a failed download is tried again at the next one. */
function load() {
  loading ??= init().then(
    () => setSegmentsWorker(() => new Worker(new URL('./segments.js', import.meta.url), { type: 'module' })),
    (error) => {
      loading = undefined;
      throw new PeerError('LOAD_FAILED', `the wasm module of tabpeer could not be loaded: ${error?.message ?? error}`, {
        cause: error,
      });
    },
  );
  return loading;
}

export function connect(options) {
  return new P2PWebAppClient().connect(options);
}

export async function generatePeerKey() {
  await load();
  return now(generate);
}

/** What a client is before it is connected: it knows nothing, and every call fails. */
const UNCONNECTED = new Proxy(
  { peerID: null, did: null, peerKey: null, version: null, connected: false, rootCID: null },
  {
    get: (known, name) => {
      if (name in known) return known[name];
      const failure = () => new PeerError('CLOSED', 'the client is not connected: call connect() first');
      if (['downloadFile', 'setTrust'].includes(name)) throw failure();
      return () => Promise.reject(failure());
    },
  },
);

export class P2PWebAppClient extends EventTarget {
  #raw = UNCONNECTED;
  /** Connected, or about to be. */
  #open = false;

  async connect(options) {
    if (this.#open) throw new PeerError('ALREADY_OPEN', 'the client is connected already');
    this.#open = true;
    try {
      const given = typeof options === 'string' ? { peerKey: options } : (options ?? {});
      // Whatever else is given as signal is refused, with a code, by open().
      if (given.signal instanceof AbortSignal) given.signal.throwIfAborted();
      await load();
      this.#raw = await settle(open(given));
      this.#dhtReady = undefined;
      // Whatever is no function is refused by open(), too.
      if (given.onClose) this.addEventListener('close', () => given.onClose(), { once: true });
    } catch (error) {
      this.#open = false;
      throw error;
    }
    this.#raw.hearContent(this.#dispatch);
    // Before those of the page: who hears that it was closed may connect it again.
    this.#raw.watch((name, detail) => {
      if (name === 'close') this.#open = false;
      this.#dispatch(name, detail);
    });
    return this;
  }

  get peerID() {
    return this.#raw.peerID;
  }

  get did() {
    return this.#raw.did;
  }

  get peerKey() {
    return this.#raw.peerKey;
  }

  get version() {
    return this.#raw.version;
  }

  get connected() {
    return this.#raw.connected;
  }

  get rootCID() {
    return this.#raw.rootCID;
  }

  storeFile(path, content, options = {}) {
    return settle(this.#raw.storeFile(path, content, options));
  }

  createDirectory(path) {
    return settle(this.#raw.createDirectory(path));
  }

  removeFile(path) {
    return settle(this.#raw.removeFile(path));
  }

  listFiles(peerID, options = {}) {
    return settle(this.#raw.listFiles(peerID, options));
  }

  async getFile(cid, fallbackPeerID, options = {}) {
    if (options?.stream) {
      const opened = await settle(this.#raw.openFile(cid, fallbackPeerID, options));
      return opened.type === 'file' ? new FileStream(opened, options.signal) : opened;
    }
    const found = await settle(this.#raw.getFile(cid, fallbackPeerID, options));
    return found.type === 'file' ? new FileContent(found) : found;
  }

  fetch(resource, init = {}) {
    const resolve = (cid, path, options) => settle(this.#raw.resolve(cid, path, options));
    return respond({ resolve, get: (...args) => this.getFile(...args) }, resource, init ?? {});
  }

  hasFile(cid) {
    return settle(this.#raw.hasFile(cid));
  }

  provide(cid) {
    return settle(this.#raw.provide(cid));
  }

  dial(address) {
    return settle(this.#raw.dial(address));
  }

  start(protocol, onData) {
    return settle(this.#raw.start(protocol, onData));
  }

  stop(protocol) {
    return settle(this.#raw.stop(protocol));
  }

  /** A function in the place of the options is p2p-webapp's `onAck`. */
  async send(peerID, protocol, data, options) {
    const onAck = typeof options === 'function' ? options : undefined;
    await settle(this.#raw.send(peerID, protocol, data, onAck ? undefined : options));
    if (onAck) (async () => onAck())().catch((error) => console.error('tabpeer: onAck threw', error));
  }

  /** Topics that are subscribed to or about to be: by name, what to close. */
  #topics = new Map();

  async subscribe(topic, onData, onPeerChange, options) {
    for (const [name, callback] of Object.entries({ onData, onPeerChange })) {
      if (typeof callback !== 'function' && (name === 'onData' || callback != null)) {
        throw new PeerError('BAD_ARGUMENT', `${name}: not a function`);
      }
    }
    const subscription = await this.#subscription(topic, options);
    if (subscription) handOn(subscription, { onData, onPeerChange }, topic, this.#dispatch);
  }

  topic(topic, options) {
    return { [Symbol.asyncIterator]: () => messages(this.#subscription(topic, options), options?.signal) };
  }

  async unsubscribe(topic) {
    for (const entry of this.#topics.get(topic) ?? []) entry.close();
  }

  async watchContent(topic, options) {
    const { signal } = options ?? {};
    const watch = await this.#subscription(topic, options, 'watchContent');
    if (!watch || !signal) return;
    // Between the subscription and this line.
    if (signal.aborted) return watch.close();
    signal.addEventListener('abort', watch.close, { once: true });
    watch.onClose = () => signal.removeEventListener('abort', watch.close);
  }

  announceContent(topic, cid) {
    return settle(this.#raw.announceContent(topic, cid));
  }

  publish(topic, data) {
    return settle(this.#raw.publish(topic, data));
  }

  listPeers(topic) {
    return settle(this.#raw.listPeers(topic));
  }

  /** Nothing, if it was unsubscribed meanwhile. */
  async #subscription(topic, options, how = 'subscribe') {
    const entries = this.#topics.get(topic) ?? new Set();
    this.#topics.set(topic, entries);
    const entry = {
      close: () => {
        entries.delete(entry);
        if (entries.size === 0 && this.#topics.get(topic) === entries) this.#topics.delete(topic);
        entry.closed = true;
        entry.raw?.close();
        entry.onClose?.();
      },
      next: () => settle(entry.raw.next()),
    };
    entries.add(entry);
    try {
      entry.raw = await settle(this.#raw[how](topic, options));
    } catch (error) {
      entry.close();
      throw error;
    }
    if (!entry.closed) return entry;
    entry.raw.close();
  }

  addPeers(peerIDs) {
    return settle(this.#raw.keepPeers(peerIDs, true));
  }

  removePeers(peerIDs) {
    return settle(this.#raw.keepPeers(peerIDs, false));
  }

  findPeer(peerID, options = {}) {
    return settle(this.#raw.findPeer(peerID, options));
  }

  #dhtReady;

  get dhtReady() {
    // That of this connection, once: another one asks again.
    this.#dhtReady ??= settle(this.#raw.dhtReady());
    return this.#dhtReady;
  }

  status() {
    return settle(this.#raw.status());
  }

  startChunkDownload(peer, cid, fileHash, chunkIndex, options = {}) {
    return settle(this.#raw.startChunkDownload(peer, cid, fileHash, chunkIndex, options, this.#dispatch));
  }

  downloadFile(cid, options) {
    const raw = now(() => this.#raw.downloadFile(cid, options, this.#dispatch));
    return new Download(raw, cid, options?.signal);
  }

  #dispatch = (name, detail) => this.dispatchEvent(new CustomEvent(name, { detail }));

  setTrust(peerID, trust) {
    now(() => this.#raw.setTrust(peerID, trust));
  }

  storage() {
    return settle(this.#raw.storage());
  }

  close() {
    return settle(this.#raw.close());
  }
}

// For `await using`. Where the language does not have it yet, a computed name would be "undefined".
if (Symbol.asyncDispose) {
  Object.defineProperty(P2PWebAppClient.prototype, Symbol.asyncDispose, {
    value() {
      return this.close();
    },
    configurable: true,
    writable: true,
  });
}

/** Calls back for each event of a subscription, one after the other, until it is closed. */
async function handOn(subscription, { onData, onPeerChange }, topic, dispatch) {
  for (let event = await subscription.next(); event; event = await subscription.next()) {
    try {
      if ('from' in event) await onData(event.from, event.data);
      else if ('peer' in event) await onPeerChange?.(event.peer, event.joined);
      else dispatch('topic_lagged', { topic, count: event.lagged });
    } catch (error) {
      console.error('tabpeer: a callback of subscribe threw', error);
    }
  }
  subscription.close();
}

/** The messages of a subscription; to stop taking them is to unsubscribe. */
async function* messages(subscribing, signal) {
  const subscription = await subscribing;
  const abort = () => subscription?.close();
  signal?.addEventListener('abort', abort, { once: true });
  try {
    if (signal?.aborted) throw signal.reason;
    let missed = 0;
    for (let event = await subscription?.next(); event; event = await subscription.next()) {
      if ('lagged' in event) missed += event.lagged;
      if (!('from' in event)) continue;
      yield { ...event, missed };
      missed = 0;
    }
    if (signal?.aborted) throw signal.reason;
  } finally {
    signal?.removeEventListener('abort', abort);
    subscription?.close();
  }
}

/** A download from several peers. */
export class Download {
  #raw;

  constructor(raw, cid, signal) {
    this.#raw = raw;
    this.cid = cid;
    this.finished = ended(raw, signal);
    // Whoever does not look at it is told by the events.
    this.finished.catch(() => {});
  }

  pause() {
    this.#raw.pause();
  }

  resume() {
    this.#raw.resume();
  }

  cancel() {
    this.#raw.cancel();
  }
}

async function ended(raw, signal) {
  const cancel = () => raw.cancel();
  if (signal?.aborted) cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    return await settle(raw.finished());
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}
