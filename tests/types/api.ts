// Compiled, never run: the declarations say what they should, and no more.
import {
  connect,
  type Download,
  type FileContent,
  type FileStream,
  generatePeerKey,
  type ImportProfile,
  P2PWebAppClient,
  PeerError,
  type PeerErrorCode,
  type SendOptions,
  type SourceKind,
  type Status,
  type Strategy,
} from 'tabpeer';

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Same<A, B>) => {};

export async function api(abort: AbortSignal) {
  const peer: P2PWebAppClient = await connect();
  await connect('CAESQ…');
  await connect({ tabs: false, peerKey: await generatePeerKey() });
  const other: P2PWebAppClient = await new P2PWebAppClient().connect({ onClose: () => {} });
  same<typeof other.did, string>(true);
  await connect({ relays: ['https://relay.example', '/ip4/127.0.0.1/tcp/4002/ws'], peerKey: peer.peerKey });

  same<typeof peer.peerID, string>(true);
  same<typeof peer.connected, boolean>(true);
  // @ts-expect-error: what the peer says of itself cannot be set
  peer.rootCID = '';

  const profile: ImportProfile = 'kubo-v1-raw';
  const stored = await peer.storeFile('a/b', new Uint8Array(3), { profile, signal: abort, onProgress: ({ bytes, total }) => [bytes, total] });
  stored satisfies { fileCid: string; rootCid: string };
  for (const content of ['text', new ArrayBuffer(1), new Blob(), new File([], 'x'), new ReadableStream<Uint8Array>()]) {
    await peer.storeFile('c', content);
  }
  // @ts-expect-error: numbers are not content
  await peer.storeFile('d', 42);
  // @ts-expect-error: no such profile
  await peer.storeFile('d', 'x', { profile: 'v9' });

  const { entries } = await peer.listFiles(peer.peerID, { timeout: 1000, signal: abort });
  // @ts-expect-error: a list has no sources
  await peer.listFiles(peer.peerID, { sources: ['local'] });
  const entry = entries['a/b'];
  if (entry?.type === 'file') same<typeof entry.cid, string>(true);

  const found = await peer.getFile(stored.fileCid, undefined, { timeout: 1000, signal: abort });
  if (found.type === 'file') {
    const file: FileContent = found;
    same<typeof file.bytes, Uint8Array<ArrayBuffer>>(true);
    same<Awaited<ReturnType<typeof file.text>>, string>(true);
    file.blob() satisfies Blob;
    file.stream() satisfies ReadableStream<Uint8Array>;
  } else {
    same<typeof found.entries, Record<string, string>>(true);
  }

  await exchange(peer, stored.fileCid, abort);
  await messages(peer, abort);
  await connections(peer);

  const { used, quota } = await peer.storage();
  same<typeof used, number>(true);
  same<typeof quota, number | undefined>(true);
  await peer.removeFile('a');
  await peer.close();
}

async function messages(peer: P2PWebAppClient, signal: AbortSignal) {
  const heard: string[] = [];
  await peer.start('chat/1', (from, data) => heard.push(from, data.text));
  await peer.start('chat/2', async (from: string, data: { text: string }) => peer.send(from, 'chat/2', data));
  for (const data of [{ text: 'hi' }, null, 7, 'text', [1], new Uint8Array(3), new ArrayBuffer(3)]) {
    same<Awaited<ReturnType<typeof peer.send>>, void>(true);
    await peer.send('12D3Koo…', 'chat/1', data);
  }
  const options: SendOptions = { signal, timeout: 1000 };
  await peer.send('12D3Koo…', 'chat/1', 'text', options);
  await peer.send('12D3Koo…', 'chat/1', 'text', () => heard.push('acknowledged'));
  await peer.send('12D3Koo…', 'chat/1', 'text', async () => {});
  await peer.stop('chat/1');
  // @ts-expect-error: nobody to hear it
  await peer.start('chat/3');
  // @ts-expect-error: nothing to send
  await peer.send('12D3Koo…', 'chat/1');
  // @ts-expect-error: a message has no progress
  await peer.send('12D3Koo…', 'chat/1', 'text', { onProgress() {} });
}

async function connections(peer: P2PWebAppClient) {
  await connect({ onClose: () => {} });
  // @ts-expect-error: onClose is a function
  await connect({ onClose: true });
  same<void, Awaited<ReturnType<typeof peer.addPeers>>>(true);
  await peer.removePeers([peer.peerID]);
  // @ts-expect-error: a list, even of one
  await peer.addPeers(peer.peerID);
  const status: Status = await peer.status();
  same<typeof status.dht, 'bootstrapping' | 'ready' | 'unavailable'>(true);
  same<typeof peer.dhtReady, Promise<boolean>>(true);
  const [address] = await peer.findPeer(peer.peerID, { signal: AbortSignal.timeout(1), timeout: 1000 });
  await peer.dial(address!);
  for (const { state, reason, retryIn, latency, limit } of status.relays) {
    if (state === 'waiting') same<[typeof reason, typeof retryIn], [string | undefined, number | undefined]>(true);
    same<[typeof latency, typeof limit], [number | undefined, { bytes?: number; seconds?: number } | undefined]>(true);
  }
  status.peers.filter(({ route, transport }) => route === 'direct' && transport === 'webtransport').map(({ relay }) => relay?.length);
  // @ts-expect-error: no such route
  status.peers.find(({ route }) => route === 'carrier pigeon');
  same<typeof status.storage.quota, number | undefined>(true);

  peer.addEventListener('peer:connect', ({ detail }) => detail.address.length);
  peer.addEventListener('peer:disconnect', ({ detail }) => {
    detail satisfies { peerID: string };
    // @ts-expect-error: who is gone has no route
    detail.route;
  });
  peer.addEventListener('relay:down', ({ detail }) => [detail.relay, detail.reason], { once: true });
  peer.addEventListener('update', () => peer.connected);
  peer.addEventListener('close', ({ detail }) => same<typeof detail, null>(true));
}

async function exchange(peer: P2PWebAppClient, cid: string, signal: AbortSignal) {
  const sources: SourceKind[] = ['local', 'peers', 'network', 'relay', 'gateway'];
  const gateways = ['https://gateway.example'];
  await connect({ sources, gateways, routers: ['https://router.example'], strategy: 'privacy-first' });
  const strategy: Strategy = ({ peer, direct, hasIPFS, latency, bandwidth, success, trust }) => {
    same<[typeof peer, typeof direct, typeof hasIPFS], [string, boolean, boolean]>(true);
    same<[typeof latency, typeof bandwidth], [number | undefined, number | undefined]>(true);
    return (latency ?? 0) + success * trust;
  };
  await connect({ strategy });
  // @ts-expect-error: no such strategy
  await connect({ strategy: 'fastest' });
  // @ts-expect-error: no such source
  await connect({ sources: ['everywhere'] });

  const opened = await peer.getFile(cid, undefined, { stream: true, signal, sources, ttl: 1, requesterId: 'did:key:z6Mk' });
  if (opened.type === 'file') {
    const file: FileStream = opened;
    file.stream({ start: 1 }) satisfies ReadableStream<Uint8Array>;
    same<Awaited<ReturnType<typeof file.bytes>>, Uint8Array<ArrayBuffer>>(true);
    same<Awaited<ReturnType<typeof file.blob>>, Blob>(true);
    // @ts-expect-error: the bytes are not here yet
    file.bytes satisfies Uint8Array;
    // @ts-expect-error: a range has a start
    file.stream({ end: 1 });
  }
  // @ts-expect-error: a whole file has no bytes() to call
  if ((await peer.getFile(cid)).type === 'file') (await peer.getFile(cid)).bytes();

  const response = await peer.fetch(new URL(`ipfs://${cid}/a`), { method: 'HEAD', headers: { Range: 'bytes=0-1' }, signal });
  same<typeof response, Response>(true);
  same<Awaited<ReturnType<typeof peer.hasFile>>, boolean>(true);
  same<Awaited<ReturnType<typeof peer.dial>>, string>(true);
  await peer.provide(cid);
  peer.setTrust(peer.peerID, 10);

  await peer.subscribe('room', async (from, data) => data[from], (id, joined) => id.length + Number(joined), { signal });
  await peer.subscribe('room', () => {}, null);
  // @ts-expect-error: nobody would hear it
  await peer.subscribe('room');
  for await (const { from, data, missed } of peer.topic('room', { signal })) {
    (await peer.publish(from, [data, missed])) satisfies boolean;
  }
  (await peer.listPeers('room')) satisfies string[];
  await peer.unsubscribe('room');

  await peer.startChunkDownload(peer.peerID, cid, 'hash', 0, { httpUrl: gateways[0], path: 'a/b', signal });
  const download: Download = peer.downloadFile(cid, { peers: ['12D3Koo…', { peer: '12D3Koo…', httpUrl: 'https://seeder.example' }], path: 'a/b' });
  download.pause();
  download.resume();
  download.cancel();
  (await download.finished) satisfies { fileCid: string; rootCid: string };
  // @ts-expect-error: without seeders there is nobody to ask
  peer.downloadFile(cid, {});

  peer.addEventListener('download_chunk_progress', ({ detail }) => {
    detail satisfies { file_hash: string; chunk_index: number; bytes_received: number; total_bytes: number };
    // @ts-expect-error: only a chunk that is complete has a path
    detail.path;
  });
  peer.addEventListener('download_chunk_complete', ({ detail }) => detail.path.length, { once: true, signal });
  peer.addEventListener('something else', (event: Event) => event.type);
}

export function explain(error: unknown): string {
  if (!(error instanceof PeerError)) throw error;
  const code: PeerErrorCode = error.code;
  // @ts-expect-error: no such code
  if (error.code === 'NO_SUCH_CODE') return '';
  return code === 'NOT_FOUND' ? 'not found' : error.message;
}
