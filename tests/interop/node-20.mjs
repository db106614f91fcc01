// libp2p 3 and Helia 7 use two things that Node.js has since version 22; the tests also run on 20.

import { WebSocket } from 'undici';

// What Node.js 22 has is this one, too. (`ws` hands over what came with the handshake before libp2p listens.)
globalThis.WebSocket ??= WebSocket;

Promise.withResolvers ??= function withResolvers() {
  const parts = {};
  parts.promise = new this((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
};
