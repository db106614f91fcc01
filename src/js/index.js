// The npm package's face: loads the wasm once, turns its results into the shapes of index.d.ts
// and its failures into PeerError. Everything else happens in Rust (src/js/client.rs).
import init, { open } from './tabpeer.js';

let loading;

/** Loads the wasm module at the first call; a failed download is tried again at the next one. */
function load() {
  loading ??= init().catch((error) => {
    loading = undefined;
    throw new PeerError('LOAD_FAILED', `the wasm module of tabpeer could not be loaded: ${error?.message ?? error}`, {
      cause: error,
    });
  });
  return loading;
}

export class PeerError extends Error {
  constructor(code, message, options) {
    super(message, options);
    this.name = 'PeerError';
    this.code = code;
  }
}

/** Waits for a result of the wasm module; its failures become PeerErrors of this package. */
async function settle(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error?.name === 'PeerError' && !(error instanceof PeerError)) {
      // The cause has the stack of where it was found.
      throw new PeerError(error.code, error.message, { cause: error });
    }
    throw error;
  }
}

export async function connect(options = {}) {
  const given = typeof options === 'string' ? { peerKey: options } : (options ?? {});
  // Whatever else is given as signal is refused, with a code, by open().
  if (given.signal instanceof AbortSignal) given.signal.throwIfAborted();
  await load();
  return new P2PWebAppClient(await settle(open(given)));
}

export class P2PWebAppClient {
  #raw;

  /** Clients come from connect(). */
  constructor(raw) {
    this.#raw = raw;
  }

  get peerID() {
    return this.#raw.peerID;
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

  listFiles(peerID) {
    return settle(this.#raw.listFiles(peerID));
  }

  async getFile(cid, fallbackPeerID, options = {}) {
    const found = await settle(this.#raw.getFile(cid, fallbackPeerID, options));
    return found.type === 'file' ? new FileContent(found) : found;
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

/** A file's bytes, in the shapes that web code wants them in. */
export class FileContent {
  #base64;

  constructor({ cid, mimeType, bytes }) {
    this.type = 'file';
    this.cid = cid;
    this.mimeType = mimeType;
    this.bytes = bytes;
  }

  get size() {
    return this.bytes.length;
  }

  /** Base64, made when first asked for. */
  get content() {
    this.#base64 ??= base64(this.bytes);
    return this.#base64;
  }

  async text() {
    return new TextDecoder().decode(this.bytes);
  }

  blob() {
    return new Blob([this.bytes], { type: this.mimeType });
  }

  stream() {
    return this.blob().stream();
  }
}

function base64(bytes) {
  if (bytes.toBase64) return bytes.toBase64();
  const parts = [];
  const step = 0x6000; // a multiple of 3, and few enough arguments for every engine
  for (let at = 0; at < bytes.length; at += step) {
    parts.push(btoa(String.fromCharCode(...bytes.subarray(at, at + step))));
  }
  return parts.join('');
}
