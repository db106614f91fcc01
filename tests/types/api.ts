// Compiled, never run: the declarations say what they should, and no more.
import { connect, type FileContent, type ImportProfile, type P2PWebAppClient, PeerError, type PeerErrorCode } from 'tabpeer';

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Same<A, B>) => {};

export async function api(abort: AbortSignal) {
  const peer: P2PWebAppClient = await connect();
  await connect('CAESQ…');
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

  const { entries } = await peer.listFiles(peer.peerID);
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

  const { used, quota } = await peer.storage();
  same<typeof used, number>(true);
  same<typeof quota, number | undefined>(true);
  await peer.removeFile('a');
  await peer.close();
}

export function explain(error: unknown): string {
  if (!(error instanceof PeerError)) throw error;
  const code: PeerErrorCode = error.code;
  // @ts-expect-error: no such code
  if (error.code === 'NO_SUCH_CODE') return '';
  return code === 'NOT_FOUND' ? 'not found' : error.message;
}
