// js-libp2p as the tests run it, in Node.js and in a page: its own defaults, nothing public, no discovery.

import { circuitRelayTransport } from '@libp2p/circuit-relay-v2';
import { gossipsub } from '@libp2p/gossipsub';
import { identify } from '@libp2p/identify';
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht';
import { noise } from '@libp2p/noise';
import { ping } from '@libp2p/ping';
import { webSockets } from '@libp2p/websockets';
import { yamux } from '@libp2p/yamux';
import { createLibp2p } from 'libp2p';

/** What a node needs for the DHT for private networks, as a server or a client; loopback addresses count in it. */
export function dht({ server }) {
  const table = kadDHT({ protocol: '/ipfs/lan/kad/1.0.0', clientMode: !server, peerInfoMapper: passthroughMapper });
  return { ping: ping(), dht: table };
}

/** A node, as a server of the DHT, a client of it (`server: false`) or without it. */
export function startLibp2p({ listen = [], server } = {}) {
  const services = { identify: identify(), pubsub: gossipsub(), ...(server === undefined ? { ping: ping() } : dht({ server })) };
  return createLibp2p({
    addresses: { listen },
    transports: [webSockets(), circuitRelayTransport()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services,
    connectionGater: { denyDialMultiaddr: () => false },
  });
}
