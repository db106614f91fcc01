// What the pubsub bench measures, in the page: this package and js-libp2p, by the same code.

import { circuitRelayTransport } from '@libp2p/circuit-relay-v2';
import { gossipsub } from '@libp2p/gossipsub';
import { identify } from '@libp2p/identify';
import { noise } from '@libp2p/noise';
import { webSockets } from '@libp2p/websockets';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { connect } from 'tabpeer';

const PROTOCOL = '/tabpeer/bench/echo/1.0.0';
/** Bytes of every message. It begins with the time at which it was sent, and its number. */
const SIZE = 1024;
/** No more comes after so long a silence. */
const QUIET_MS = 3000;

/** The client that is measured, and what its page has heard. */
let client;
let heard;

globalThis.bench = {
  /** Connects with the relay; says the peer's id. */
  async open({ kind, address }) {
    client = await CLIENTS[kind](address);
    return client.id;
  },

  /** Hears what is published from now on. */
  async subscribe(topic) {
    heard = new Heard();
    await client.subscribe(topic, (bytes) => heard.message(bytes));
  },

  /** Resolves when somebody is known to be on the topic. */
  async present(topic) {
    while ((await client.peers(topic)) === 0) await pause(50);
  },

  /** Publishes at a rate; says how many. */
  async publishSteadily({ topic, perSecond, seconds }) {
    const count = perSecond * seconds;
    const started = performance.now();
    const published = [];
    for (let n = 0; n < count; n += 1) {
      const wait = started + (n * 1000) / perSecond - performance.now();
      if (wait > 0) await pause(wait);
      published.push(client.publish(topic, message(n)));
    }
    await Promise.all(published);
    return count;
  },

  /** Publishes as fast as it goes up to a rate, with `window` calls under way; says how many, and when it began. */
  async publishFast({ topic, perSecond, seconds, window }) {
    const began = now();
    let count = 0;
    const one = async () => {
      for (let passed = 0; passed < seconds; passed = (now() - began) / 1000) {
        if (count <= passed * perSecond) await client.publish(topic, message(count++));
        else await pause(1);
      }
    };
    await Promise.all(Array.from({ length: window }, one));
    return { count, began };
  },

  /** Publishes one message with this number; says when. */
  async publishOne({ topic, number }) {
    const bytes = message(number);
    await client.publish(topic, bytes);
    return new DataView(bytes.buffer).getFloat64(0);
  },

  /** Forgets what was heard. */
  forget() {
    heard = new Heard();
  },

  /** What was heard, when it is `count` messages or nothing more comes. */
  async heard(count) {
    while (heard.delays.length < count && now() - heard.last < QUIET_MS) await pause(20);
    const { delays, twice, first, last } = heard;
    return { delays, twice, first, last };
  },

  /** Answers `roundTrips` of another page. */
  answer: () => client.answer(),

  /** Messages that are acknowledged, one after the other; milliseconds of each. */
  async roundTrips({ peer, count, warm }) {
    const send = await client.sender(peer);
    const times = [];
    for (let n = 0; n < warm + count; n += 1) {
      const bytes = message(n);
      const started = performance.now();
      await send(bytes);
      if (n >= warm) times.push(performance.now() - started);
    }
    return times;
  },

  hidden: () => document.hidden,
};

class Heard {
  delays = [];
  twice = 0;
  first = 0;
  last = now();
  #numbers = new Set();

  message(bytes) {
    const at = now();
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const number = view.getUint32(8);
    if (this.#numbers.has(number)) {
      this.twice += 1;
      return;
    }
    this.#numbers.add(number);
    this.delays.push(at - view.getFloat64(0));
    this.first ||= at;
    this.last = at;
  }
}

const CLIENTS = {
  async tabpeer(address) {
    const peer = await connect({ relays: [address] });
    return {
      id: peer.peerID,
      subscribe: (topic, onBytes) => peer.subscribe(topic, (_, bytes) => onBytes(bytes)),
      publish: (topic, bytes) => peer.publish(topic, bytes),
      peers: async (topic) => (await peer.listPeers(topic)).length,
      answer: () => peer.start(PROTOCOL, () => {}),
      sender: (other) => (bytes) => peer.send(other, PROTOCOL, bytes),
    };
  },

  /** With the defaults of its parts. */
  async js(address) {
    const node = await createLibp2p({
      addresses: { listen: [`${address}/p2p-circuit`] },
      transports: [webSockets(), circuitRelayTransport()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      services: { identify: identify(), pubsub: gossipsub() },
      connectionGater: { denyDialMultiaddr: () => false },
    });
    const { pubsub } = node.services;
    await node.dial(multiaddr(address));
    return {
      id: node.peerId.toString(),
      subscribe(topic, onBytes) {
        pubsub.addEventListener('message', ({ detail }) => detail.topic === topic && onBytes(detail.data));
        pubsub.subscribe(topic);
      },
      publish: (topic, bytes) => pubsub.publish(topic, bytes),
      peers: (topic) => pubsub.getMeshPeers(topic).length,
      // It has no messages of its own: the other side says that it has them by a byte on the same stream.
      answer: () => node.handle(PROTOCOL, (stream) => countMessages(stream, () => stream.send(Uint8Array.of(1))), { runOnLimitedConnection: true }),
      async sender(other) {
        const target = multiaddr(`${address}/p2p-circuit/p2p/${other}`);
        const stream = await node.dialProtocol(target, PROTOCOL, { runOnLimitedConnection: true });
        let acknowledged;
        stream.addEventListener('message', () => acknowledged());
        return (bytes) =>
          new Promise((resolve) => {
            acknowledged = resolve;
            stream.send(bytes);
          });
      },
    };
  },
};

/** Calls `each` for every message of a stream, in whatever pieces they come. */
function countMessages(stream, each) {
  let bytes = 0;
  stream.addEventListener('message', ({ data }) => {
    bytes += data.byteLength;
    for (; bytes >= SIZE; bytes -= SIZE) each();
  });
}

function message(number) {
  const bytes = new Uint8Array(SIZE).fill(0xa5);
  const view = new DataView(bytes.buffer);
  view.setFloat64(0, now());
  view.setUint32(8, number);
  return bytes;
}

/** Milliseconds, the same in every page and process of this machine. */
function now() {
  return performance.timeOrigin + performance.now();
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
