// A Helia in a process of its own, on loopback over TCP and WebSocket. It speaks as kubo.py does: a line that
// says it is ready, then one answer for each command, until stdin closes.

import './node-20.mjs';
import { createReadStream } from 'node:fs';
import { mkdir, open, stat, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { tcp } from '@libp2p/tcp';
import { addFile, addFolder, describe, dial, readFile, readFolder, startHelia } from './helia.mjs';

const helia = await startHelia({ transports: [tcp()], listen: ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/ws'] });
say({ ready: true, peerId: helia.libp2p.peerId.toString(), addresses: helia.libp2p.getMultiaddrs().map(String) });

const commands = {
  add: async ({ path: from, ...options }) => ({
    cid: (await stat(from)).isDirectory()
      ? await addFolder(helia, filesOf(from), options)
      : await addFile(helia, createReadStream(from, { highWaterMark: 1 << 20 }), options),
  }),
  fetch: async ({ cid, to }) => {
    if ((await describe(helia, cid)).directory) {
      await mkdir(to);
      await readFolder(helia, cid, (name, bytes) => writeFile(path.join(to, path.basename(name)), bytes));
      return {};
    }
    const file = await open(to, 'w');
    for await (const chunk of readFile(helia, cid)) await file.write(chunk);
    await file.close();
    return {};
  },
  dial: async ({ address }) => {
    await dial(helia, address);
    return {};
  },
  peers: () => ({ peers: helia.libp2p.getPeers().map(String) }),
};

for await (const line of createInterface(process.stdin)) {
  const { command, ...options } = JSON.parse(line);
  if (command === 'stop') break;
  try {
    say(await commands[command](options));
  } catch (error) {
    say({ error: `${error.name}: ${error.message}` });
  }
}
process.exit(0);

async function* filesOf(folder) {
  for (const name of (await readdir(folder)).sort()) yield { path: name, content: createReadStream(path.join(folder, name)) };
}

function say(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
