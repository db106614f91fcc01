// What is measured, in the page. Each function works on an empty database of its own and says seconds.

import { unixfs } from '@helia/unixfs';
import { IDBBlockstore } from 'blockstore-idb';
import { connect } from 'tabpeer';

const KEY_BYTES = 36;
/** A block of the default profile: nothing is left to cut or join. */
const SLICE_BYTES = 1 << 20;

globalThis.bench = {
  /** The browser's own limit: `count` values of `size` bytes, `together` puts in a transaction. */
  async plainPuts({ size, count, together, readBack }) {
    const name = `plain-${crypto.randomUUID()}`;
    const database = await openPlain(name);
    const keys = Array.from({ length: count }, () => crypto.getRandomValues(new Uint8Array(KEY_BYTES)));
    const values = keys.map(() => noise(size));
    const put = await timed(async () => {
      for (let at = 0; at < count; at += together) {
        // As durable as what the package writes, and Helia in Chromium.
        const transaction = database.transaction('blocks', 'readwrite', { durability: 'relaxed' });
        const blocks = transaction.objectStore('blocks');
        for (let index = at; index < Math.min(count, at + together); index += 1) blocks.put(values[index], keys[index]);
        await finished(transaction);
      }
    });
    let get;
    if (readBack) {
      values.length = 0;
      get = await timed(async () => {
        for (const key of keys) await done(database.transaction('blocks').objectStore('blocks').get(key));
      });
    }
    database.close();
    await done(indexedDB.deleteDatabase(name));
    return { put, get };
  },

  async open() {
    globalThis.peer = await connect({ relays: [] });
  },

  /** Stores the chosen File, from the disk or, like the plain puts, from memory. */
  async storeFile({ profile, path, inMemory }) {
    const content = await chosen(inMemory);
    let cid;
    const seconds = await timed(async () => {
      cid = (await peer.storeFile(path, content, { profile })).fileCid;
    });
    return { seconds, cid };
  },

  /** Opens the peer anew, so that nothing comes from its memory, and reads. */
  async readBack({ cid, size }) {
    await peer.close();
    await bench.open();
    return timed(async () => {
      const found = await peer.getFile(cid);
      if (found.size !== size) throw new Error(`${found.size} bytes instead of ${size}`);
    });
  },

  async smallFiles({ count, size }) {
    const contents = Array.from({ length: count }, () => noise(size));
    const seconds = await timed(() => Promise.all(contents.map((content, at) => peer.storeFile(`many/${at}.bin`, content))));
    const { entries } = await peer.listFiles();
    const found = Object.keys(entries).filter((path) => path.startsWith('many/')).length;
    if (found !== count) throw new Error(`${found} of ${count} files are there`);
    await peer.removeFile('many');
    return seconds;
  },

  async remove({ path }) {
    await peer.removeFile(path);
  },

  /** Helia's importer and its IndexedDB blockstore, on the same content; its default is the same profile. */
  async helia({ inMemory }) {
    const blockstore = new IDBBlockstore('helia');
    await blockstore.open();
    const files = unixfs({ blockstore });
    const content = await chosen(inMemory);
    let cid;
    const seconds = await timed(async () => {
      cid = String(await files.addByteStream(inMemory ? slices(content) : chunks(content.stream())));
    });
    await blockstore.close();
    return { seconds, cid };
  },
};

async function chosen(inMemory) {
  const [file] = document.querySelector('#file').files;
  return inMemory ? new Uint8Array(await file.arrayBuffer()) : file;
}

async function timed(work) {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/** Copies: of a part of a larger array the blockstore would write the whole of it. */
function* slices(bytes) {
  for (let at = 0; at < bytes.length; at += SLICE_BYTES) yield bytes.slice(at, at + SLICE_BYTES);
}

async function* chunks(stream) {
  const reader = stream.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
}

function openPlain(name) {
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => request.result.createObjectStore('blocks');
  return done(request);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** Bytes that cannot be compressed; the browser hands out 64 KiB of them at a time. */
function noise(size) {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 65_536) crypto.getRandomValues(bytes.subarray(at, Math.min(size, at + 65_536)));
  return bytes;
}
