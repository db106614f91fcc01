// What the transfer bench measures, in the page: this package, the plain stream below it, and Helia.

import { IDBBlockstore } from 'blockstore-idb';
import { connect } from 'tabpeer';
import { rawDownload } from 'tabpeer/raw';
import { describe, dial, readFile, startHelia } from '../../interop/helia.mjs';

const ARRAY_BYTES = 1 << 20;

let helia;

globalThis.bench = {
  async open(addresses) {
    globalThis.peer = await connect({ relays: [] });
    for (const address of addresses) await peer.dial(address);
  },

  /** The plain stream; the package is loaded by `open`. */
  async raw({ address, size }) {
    const [seconds] = await rawDownload(address, size);
    return seconds;
  },

  /** Reads a file while it comes, into one array again and again, until it is stored: then the stream ends. */
  stream({ cid, size }) {
    return stored(cid, async () => {
      const file = await peer.getFile(cid, undefined, { stream: true });
      const reader = file.stream().getReader({ mode: 'byob' });
      let bytes = 0;
      for (let array = new Uint8Array(ARRAY_BYTES); ; ) {
        const { value, done } = await reader.read(array);
        if (done) break;
        bytes += value.length;
        array = new Uint8Array(value.buffer);
      }
      if (bytes !== size) throw new Error(`${bytes} bytes instead of ${size}`);
    });
  },

  /** The same, each piece in an array of its own. */
  pieces({ cid, size }) {
    return stored(cid, async () => {
      const file = await peer.getFile(cid, undefined, { stream: true });
      let bytes = 0;
      for await (const piece of file.stream()) bytes += piece.length;
      if (bytes !== size) throw new Error(`${bytes} bytes instead of ${size}`);
    });
  },

  /** The same as one array. */
  whole({ cid, size }) {
    return stored(cid, async () => {
      const file = await peer.getFile(cid);
      if (file.bytes.length !== size) throw new Error(`${file.bytes.length} bytes instead of ${size}`);
    });
  },

  /** Every file of a flat directory. */
  directory({ cid, count, size }) {
    return timed(async () => {
      const { entries } = await peer.getFile(cid);
      const files = await Promise.all(Object.values(entries).map((file) => peer.getFile(file)));
      const whole = files.filter((file) => file.bytes.length === size).length;
      if (whole !== count) throw new Error(`${whole} files instead of ${count}`);
    });
  },

  async openHelia(addresses) {
    const blockstore = new IDBBlockstore('helia');
    await blockstore.open();
    helia = await startHelia({ blockstore });
    for (const address of addresses) await dial(helia, address);
  },

  /** Reads a file while it comes; Helia stores each block before it hands it on. */
  helia({ cid, size }) {
    return timed(async () => {
      await describe(helia, cid);
      let bytes = 0;
      for await (const chunk of readFile(helia, cid)) bytes += chunk.length;
      if (bytes !== size) throw new Error(`${bytes} bytes instead of ${size}`);
    });
  },
};

/** Seconds that `work` takes, which stores the file. */
async function stored(cid, work) {
  const seconds = await timed(work);
  if (!(await peer.hasFile(cid))) throw new Error('it was not stored');
  return seconds;
}

async function timed(work) {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}
