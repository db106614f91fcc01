// A Helia in a page, for helia-page.mjs to drive. Bundled by Vite.

import { webTransport } from '@libp2p/webtransport';
import { addFile, describe, dial, readFile, readFolder, startHelia } from '../helia.mjs';

const helia = await startHelia({ transports: [webTransport()] });

globalThis.helia = {
  peerId: helia.libp2p.peerId.toString(),
  dial: (address) => dial(helia, address),
  peers: () => helia.libp2p.getPeers().map(String),
  add: (bytes, options) => addFile(helia, [bytes], options),
  /** What is behind a CID: a file's size and digest, or a directory's names with the digests of the files. */
  async fetch(cid) {
    if ((await describe(helia, cid)).directory) {
      const entries = {};
      await readFolder(helia, cid, async (name, bytes) => {
        entries[name] = await sha256(bytes);
      });
      return { entries };
    }
    const chunks = [];
    for await (const chunk of readFile(helia, cid)) chunks.push(chunk);
    const bytes = await new Blob(chunks).arrayBuffer();
    return { size: bytes.byteLength, sha256: await sha256(bytes) };
  },
};

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
