// A js-libp2p node in a page, for libp2p.test.mjs to drive. Bundled by Vite.

import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import { startLibp2p } from '../libp2p.mjs';

const node = await startLibp2p();
const { ping, pubsub } = node.services;
const heard = [];
pubsub.addEventListener('message', ({ detail }) => heard.push([detail.from.toString(), new TextDecoder().decode(detail.data)]));

globalThis.js = {
  peerId: node.peerId.toString(),
  heard,
  dial: async (address) => (await node.dial(multiaddr(address))).remoteAddr.toString(),
  ping: (peer) => ping.ping(peerIdFromString(peer)),
  subscribe: (topic) => pubsub.subscribe(topic),
  subscribers: (topic) => pubsub.getSubscribers(topic).map(String),
  publish: (topic, text) => pubsub.publish(topic, new TextEncoder().encode(text)),
};
