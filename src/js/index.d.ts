/// <reference lib="esnext.disposable" />

/**
 * tabpeer: this tab as a libp2p/IPFS peer. These declarations need TypeScript 5.7 or newer.
 *
 * ```js
 * import { connect } from 'tabpeer';
 *
 * const peer = await connect();
 * const { fileCid } = await peer.storeFile('notes/hello.txt', 'Hello, peers!');
 * const file = await peer.getFile(fileCid);
 * if (file.type === 'file') console.log(peer.peerID, await file.text());
 * ```
 */

/** What went wrong, for code to act on. The message of the error says it for people. */
export type PeerErrorCode =
  /** The peer is open already in this browser, in another tab for example. */
  | 'ALREADY_OPEN'
  /** The protocol is started already, or is one that the peer itself speaks. */
  | 'ALREADY_STARTED'
  /** An argument has the wrong type or value; the message names it. */
  | 'BAD_ARGUMENT'
  /** The bytes are those of the CID, but not a valid UnixFS file or directory. */
  | 'BAD_CONTENT'
  /** The peer is doing too much at once; try again later. */
  | 'BUSY'
  /** The download was cancelled. */
  | 'CANCELLED'
  /** The client was closed, or never connected. */
  | 'CLOSED'
  /** A stored block no longer matches its CID; fetch the file again. */
  | 'CORRUPT_BLOCK'
  /** Not a multiaddr or URL that this browser can dial. */
  | 'INVALID_ADDRESS'
  /** Not a CID. */
  | 'INVALID_CID'
  /** Not a peer key. */
  | 'INVALID_KEY'
  /** Not a path: empty parts, `..`, control characters, too long. */
  | 'INVALID_PATH'
  /** Not a peer id. */
  | 'INVALID_PEER_ID'
  /** A directory is where a file was expected or would be replaced by one. */
  | 'IS_A_DIRECTORY'
  /** The wasm module could not be loaded. */
  | 'LOAD_FAILED'
  /** A file is where a directory is needed. */
  | 'NOT_A_DIRECTORY'
  /** Nobody who was asked has it, or the path names nothing. */
  | 'NOT_FOUND'
  /** The peer could not be reached on any known way. */
  | 'PEER_UNREACHABLE'
  /** The other side broke the rules of a protocol. */
  | 'PROTOCOL'
  /** The browser's storage quota for this origin is used up; this file was not written. */
  | 'QUOTA_EXCEEDED'
  /** The browser's database failed. */
  | 'STORAGE'
  /** It took longer than the time given. */
  | 'TIMEOUT'
  /** It is above a limit that the message names. */
  | 'TOO_LARGE'
  /** The other peer was reached, but its app did not take the message. */
  | 'UNACKNOWLEDGED'
  /** The other peer does not speak the protocol. */
  | 'UNSUPPORTED'
  /** A peer sent bytes that do not belong to the CID that was asked for. They were thrown away. */
  | 'WRONG_CONTENT';

/** Every failure of this package, except an abort, which rejects with the signal's reason. */
export class PeerError extends Error {
  constructor(code: PeerErrorCode, message: string, options?: { cause?: unknown });
  readonly name: 'PeerError';
  readonly code: PeerErrorCode;
}

export interface ConnectOptions {
  /**
   * A topic on which others are told when this peer's files have changed, while it is subscribed:
   * `{"type":"p2p-webapp-file-update","peer":PEER_ID}`.
   */
  fileUpdateNotifyTopic?: string;
  /**
   * Relays to meet other peers at: URLs of relays (`https://relay.example`, the best form: the relay
   * tells its present addresses there) or multiaddrs. `connect` resolves as soon as others can reach this peer
   * through one of them, or when none could be reached, which is no failure: see `connected`.
   * Left out: the page's own origin is asked, so a page served by a relay needs no configuration.
   * At most 16. An empty list: no network; other tabs are found all the same.
   */
  relays?: string[];
  /**
   * The identity to use: a `peerKey` of an earlier session. Files belong to an identity. Left out: the
   * identity is made once and kept in the browser's storage.
   */
  peerKey?: string;
  /** Longest wait for a relay, in milliseconds (default 10 000). After it the peer is there, offline, and goes on trying. */
  timeout?: number;
  /** Where content is looked for, in this order (default: all, in the order of {@link SourceKind}). */
  sources?: SourceKind[];
  /** Which peers and sources are asked first (default `performance`). */
  strategy?: Strategy;
  /**
   * Trustless HTTP gateways to ask when nobody else has something, `https://…`; none by default, at most 16.
   * What they send is verified block by block.
   */
  gateways?: string[];
  /** Delegated routers (`https://…/routing/v1` without the path) that are asked who has a CID; none by default, at most 16. */
  routers?: string[];
  /**
   * Whether this tab and other tabs and workers of the same origin find each other and connect within the browser,
   * without any network (default true). Each needs an identity of its own:
   *
   * ```js
   * import { connect, generatePeerKey } from 'tabpeer';
   *
   * const peer = await connect({ relays: [], peerKey: await generatePeerKey() }); // for as long as this page
   * peer.addEventListener('peer:connect', ({ detail }) => console.log(detail.peerID, detail.transport)); // … 'tab'
   * ```
   */
  tabs?: boolean;
  /** Gives up; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Called once when the client is closed, however that came about; so does the event `close`. */
  onClose?: () => void;
}

/**
 * A place where content is looked for:
 *
 * - `local`: this browser's storage
 * - `peers`: the connected peers, all at once, and the fallback peer of a call
 * - `network`: peers that the DHT or a router names
 * - `relay`: the HTTP gateway of the relays
 * - `gateway`: the gateways given to {@link connect}
 */
export type SourceKind = 'local' | 'peers' | 'network' | 'relay' | 'gateway';

/**
 * What decides whom to ask first.
 *
 * - `performance`: low latency, high bandwidth, direct connections
 * - `trust`: peers that {@link P2PWebAppClient.setTrust} names, and those that never sent anything wrong
 * - `privacy-first`: connected peers only; neither the DHT nor gateways learn what is looked for
 * - `cost`: direct peers before relayed ones, gateways last
 * - a function: a score for each peer, higher is asked first; one that throws counts as 0
 */
export type Strategy = 'performance' | 'trust' | 'privacy-first' | 'cost' | ((peer: PeerScoreInput) => number);

/** What is measured of a peer. */
export interface PeerScoreInput {
  peer: string;
  /** Connected without a relay between. */
  direct: boolean;
  /** Speaks Bitswap. */
  hasIPFS: boolean;
  /** Round trip in milliseconds, once measured. */
  latency?: number;
  /** Bytes per second received from it, once measured. */
  bandwidth?: number;
  /** Of what it was asked for, the part that it delivered: 0 to 1. */
  success: number;
  /** As set by {@link P2PWebAppClient.setTrust}: 0 to 10, 0 unless set. */
  trust: number;
}

/**
 * Opens this browser's peer. Works offline too: then `connected` is false until a relay or another tab is reached.
 *
 * The page must be a secure context, that is, come from `https:` or from localhost: the peer needs Web
 * Locks and WebCrypto, which browsers offer nowhere else.
 *
 * @param options options, or just a `peerKey`
 * @throws {PeerError} `ALREADY_OPEN`, `BAD_ARGUMENT` (more than 16 relays, for example), `INVALID_KEY`,
 * `INVALID_ADDRESS`, `LOAD_FAILED`, `STORAGE`, `QUOTA_EXCEEDED`
 */
export function connect(options?: ConnectOptions | string): Promise<P2PWebAppClient>;

/**
 * Makes a new identity, for {@link ConnectOptions.peerKey}: whoever has the key is this peer, so keep it secret.
 * Nothing is stored; a peer whose key is forgotten is gone, with its files.
 *
 * ```js
 * import { generatePeerKey } from 'tabpeer';
 *
 * const key = await generatePeerKey();
 * console.assert(key !== (await generatePeerKey()));
 * ```
 * @throws {PeerError} `LOAD_FAILED`
 */
export function generatePeerKey(): Promise<string>;

/**
 * How a file is cut into blocks; decides its CID.
 *
 * - `unixfs-v1-2025`: CIDv1, raw leaves of 1 MiB
 * - `kubo-v1-raw`: CIDv1, raw leaves of 256 KiB, as `ipfs add --cid-version=1`
 * - `unixfs-v0-2015`: CIDv0, leaves of 256 KiB in dag-pb, as `ipfs add`
 */
export type ImportProfile = 'unixfs-v1-2025' | 'kubo-v1-raw' | 'unixfs-v0-2015';

/** Bytes done so far, and of how many if that is known. */
export interface Progress {
  bytes: number;
  total?: number;
}

export interface StoreOptions {
  /** Default `unixfs-v1-2025`. */
  profile?: ImportProfile;
  /** Gives up; the promise rejects with the signal's reason. An abort may come too late: then the file is stored. */
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
}

export interface ListOptions {
  /** Gives up; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
  /**
   * Longest time for the whole call, in milliseconds. Left out: as long as bytes keep arriving; a peer is
   * given up when it is not found within 20 s, does not agree on a protocol within 10 s, or sends no byte
   * for 30 s.
   */
  timeout?: number;
}

export interface FindOptions {
  /** Gives up; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Longest time for the whole call, in milliseconds. Left out: as long as the DHT takes, at most a minute and a half. */
  timeout?: number;
}

export interface SubscribeOptions {
  /** Gives up subscribing; of `topic()` and `watchContent()` it also ends the subscription later. One of `subscribe()` ends with `unsubscribe` only. */
  signal?: AbortSignal;
}

/** What somebody has published. */
export interface TopicMessage {
  /** Who wrote it, which is proven. */
  from: string;
  /** A JSON value, or a `Uint8Array`. */
  data: any;
  /** How many messages before this one were dropped, because they were not taken in time. */
  missed: number;
}

export interface GetOptions {
  /** Gives up; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
  /**
   * Longest time for the whole call, in milliseconds. Left out: as long as bytes keep arriving. A peer
   * is left when it is not found within 20 s, does not agree on a protocol within 10 s, or sends no
   * byte for 30 s.
   */
  timeout?: number;
  onProgress?: (progress: Progress) => void;
  /** Where to look, in this order, for this call only. Left out: as given to {@link connect}. An empty array: only this browser's storage. */
  sources?: SourceKind[];
  /**
   * How many peers beyond the one that is asked may be asked on our behalf (default 0, at most 4); told to peers
   * whose protocol has a place for it. Peers of this package do not pass requests on.
   */
  ttl?: number;
  /** Who asks, as a DID (this peer's own is its `did`); told to peers whose protocol has a place for it. */
  requesterId?: string;
}

export interface SendOptions {
  /** Gives up; the promise rejects with the signal's reason. The message is not sent if it was not yet; it may come too late. */
  signal?: AbortSignal;
  /**
   * Longest time for the whole call, in milliseconds; after it the message is treated as after an abort.
   * Left out: three attempts, 2 and 4 s apart, each given up when the peer is not found within 20 s or takes
   * no message for 5 s.
   */
  timeout?: number;
}

/** Bytes from `start` up to but not including `end`; without `end` up to the end of the file. */
export interface ByteRange {
  start: number;
  end?: number;
}

/** The CID of what was stored, and of the whole tree after it. */
export interface StoreResult {
  fileCid: string;
  rootCid: string;
}

export interface FileEntry {
  type: 'file' | 'directory';
  cid: string;
  /** By the file's name; only for files. */
  mimeType?: string;
}

/** A whole tree: every file and directory by its path from the top. */
export interface FileList {
  /** The CID of the tree; empty (`''`) when another peer does not tell it. */
  rootCID: string;
  entries: Record<string, FileEntry>;
}

/** One directory: the CIDs of what is in it, by name. */
export interface DirectoryContent {
  type: 'directory';
  cid: string;
  entries: Record<string, string>;
}

/** A file, whole and verified. */
export class FileContent {
  private constructor();
  readonly type: 'file';
  readonly cid: string;
  /** Told from the content. */
  readonly mimeType: string;
  readonly size: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The bytes in base64. Of a copy of the properties (`{ ...file }`, JSON) this is a part, and `bytes` is not. */
  readonly content: string;
  /** The bytes read as UTF-8. */
  text(): Promise<string>;
  blob(): Blob;
  stream(): ReadableStream<Uint8Array<ArrayBuffer>>;
}

/**
 * A file whose bytes may still be on their way: comes from `getFile(cid, peer, { stream: true })` and
 * can be read, in whole or in part, while it arrives. What was read is kept and served on.
 */
export class FileStream {
  private constructor();
  readonly type: 'file';
  readonly cid: string;
  /** Told from the first bytes. */
  readonly mimeType: string;
  /** In bytes. */
  readonly size: number;
  /**
   * The bytes in order, as they arrive; no more of the file is fetched ahead than about 16 MiB. Cancelling
   * it stops the fetch. Fails as `getFile` does.
   *
   * Where the browser has byte streams (older versions of Safari have not), a reader may bring an array of its own,
   * which is filled and given back, and no other is made for it. Else each piece is a new array, and a browser
   * lets about 100 MB of those lie around before it collects them.
   *
   * ```js
   * import { connect } from 'tabpeer';
   *
   * const peer = await connect();
   * const { fileCid } = await peer.storeFile('large.bin', new Uint8Array(3_000_000));
   * const file = await peer.getFile(fileCid, undefined, { stream: true });
   * if (file.type !== 'file') throw new Error('a directory');
   * const reader = file.stream().getReader({ mode: 'byob' });
   * let array = new Uint8Array(1_000_000);
   * let bytes = 0;
   * for (;;) {
   *   const { value, done } = await reader.read(array);
   *   if (done) break;
   *   bytes += value.length; // use value here
   *   array = new Uint8Array(value.buffer); // the same memory again
   * }
   * console.assert(bytes === file.size);
   * ```
   */
  stream(range?: ByteRange): ReadableStream<Uint8Array<ArrayBuffer>>;
  /** Waits for all of the range. */
  bytes(range?: ByteRange): Promise<Uint8Array<ArrayBuffer>>;
  text(): Promise<string>;
  blob(): Promise<Blob>;
}

/** A seeder of a file: its peer id, or with the HTTP URL at which it serves trustless blocks as well. */
export type Seeder = string | { peer: string; httpUrl?: string };

export interface ChunkDownloadOptions {
  /** The seeder's trustless gateway (`https://host` serving `/ipfs/CID?format=raw`), asked when Bitswap fails. */
  httpUrl?: string;
  /** Named in the events; nothing is written there. */
  path?: string;
  signal?: AbortSignal;
}

export interface DownloadOptions {
  /** Peers that have the file, at most 64; they are dialled if need be. */
  peers: Seeder[];
  /** What the events call the file; the CID when left out. */
  fileHash?: string;
  /** Where in this peer's tree the file is put when it is whole; left out: it is only kept. */
  path?: string;
  signal?: AbortSignal;
}

/** A download from several peers under way; comes from {@link P2PWebAppClient.downloadFile}. */
export class Download {
  private constructor();
  readonly cid: string;
  /** Resolves when the file is whole; rejects when a chunk could be had from nobody (`NOT_FOUND`) or it was cancelled (`CANCELLED`, or the signal's reason). */
  readonly finished: Promise<StoreResult>;
  /** Asks for no more chunks; what is on its way still arrives. */
  pause(): void;
  resume(): void;
  /** Ends it. Finished chunks stay: the next download of the same file goes on from there. */
  cancel(): void;
}

/** The events of chunk downloads; `detail` has the fields. */
export interface ChunkEvents {
  download_chunk_started: CustomEvent<{ file_hash: string; chunk_index: number; cid: string; peer: string }>;
  download_chunk_progress: CustomEvent<{
    file_hash: string;
    chunk_index: number;
    bytes_received: number;
    total_bytes: number;
  }>;
  download_chunk_complete: CustomEvent<{ file_hash: string; chunk_index: number; path: string }>;
  download_chunk_failed: CustomEvent<{ file_hash: string; chunk_index: number; error: string }>;
}

/** A relay of {@link ConnectOptions.relays} and how it stands. */
export interface RelayStatus {
  /** As it was given to {@link connect}. */
  relay: string;
  /** Once it is known. */
  peerID?: string;
  /** By which address it is connected. */
  address?: string;
  /**
   * - `connecting`: it is being reached
   * - `connected`: it is, but others cannot reach this peer through it yet
   * - `reserved`: others reach this peer through it
   * - `waiting`: it could not be reached, and is tried again
   * - `failed`: this browser cannot reach it, and does not try
   */
  state: 'connecting' | 'connected' | 'reserved' | 'waiting' | 'failed';
  /** Why it is `waiting` or `failed`. */
  reason?: string;
  /** Milliseconds until it is tried again, while `waiting`. */
  retryIn?: number;
  /** Milliseconds there and back, once measured. */
  latency?: number;
  /** What a connection of two peers through it may carry; left out when it does not matter. */
  limit?: { bytes?: number; seconds?: number };
}

/** A connected peer, by its best connection. */
export interface PeerStatus {
  peerID: string;
  route: 'direct' | 'relayed';
  /** The peer id of the relay in between. */
  relay?: string;
  /** That of the connection; to the relay, if it is relayed. `tab`: another tab of this origin. */
  transport?: 'websocket' | 'webtransport' | 'tab';
  address: string;
  /** It may carry little: the relay in between limits it. */
  limited: boolean;
  /** Milliseconds there and back, once measured. */
  latency?: number;
  /** What the peer calls itself, once it has said so. */
  agent?: string;
  /** The protocols that it speaks; empty until it has said so. */
  protocols: string[];
  /** Named by {@link P2PWebAppClient.addPeers}. */
  protected: boolean;
}

/** How everything stands at one moment; see {@link P2PWebAppClient.status}. */
export interface Status {
  peerID: string;
  /** As the client's own `connected`. */
  connected: boolean;
  /** Whether others can open connections with this peer, behind whatever router it is: through relays, or not. */
  reachable: 'relayed' | 'no';
  /**
   * Whether the DHT can be asked:
   *
   * - `bootstrapping`: nobody who serves it is known yet; what asks it waits, see {@link P2PWebAppClient.dhtReady}
   * - `ready`: it can
   * - `unavailable`: nobody served it in time, or there is no network; it turns `ready` when somebody does
   */
  dht: 'bootstrapping' | 'ready' | 'unavailable';
  /** The addresses at which others can open connections with this peer; empty while `reachable` is `no`. */
  addresses: string[];
  /** What this browser can connect with. */
  transports: ('websocket' | 'webtransport' | 'tab')[];
  /** In the order in which they were given. */
  relays: RelayStatus[];
  /** The connected peers; the relays are not among them. */
  peers: PeerStatus[];
  /** Whom {@link P2PWebAppClient.addPeers} has named, connected or not. */
  protected: string[];
  storage: StorageInfo;
}

/**
 * The events of connections. They tell what changes after {@link connect} has resolved, what is before that is in
 * {@link P2PWebAppClient.status}. What comes and goes within a moment may be left out.
 */
export interface ConnectionEvents {
  'peer:connect': CustomEvent<PeerStatus>;
  'peer:disconnect': CustomEvent<{ peerID: string }>;
  /** Others can reach this peer through the relay. */
  'relay:up': CustomEvent<{ relay: string; peerID?: string }>;
  /** They no longer can; it is tried again by itself. */
  'relay:down': CustomEvent<{ relay: string; peerID?: string; reason: string }>;
  /** Something of {@link P2PWebAppClient.status} may have changed, `connected` for example; comes after the events that say what. */
  update: CustomEvent<null>;
  /** The client was closed. The last event of all. */
  close: CustomEvent<null>;
}

/** The events of announced content; see {@link P2PWebAppClient.watchContent}. */
export interface ContentEvents {
  'content:available': CustomEvent<ContentAvailable>;
}

/** That somebody has announced content. */
export interface ContentAvailable {
  /** Its CID. */
  hash: string;
  /** Who announced it, now or once before; proven if it was heard on a topic, the word of `via` if not. */
  source: string;
  /** The topic that it was heard on; there is either this or `via`. */
  topic?: string;
  /** The connected peer that told it. */
  via?: string;
  /** How many notices before this one were dropped, because they were not taken in time. */
  missed: number;
}

/** The events of topics; see {@link P2PWebAppClient.subscribe}. */
export interface TopicEvents {
  /** Messages were dropped, `count` of them, because a subscription did not take them in time. */
  topic_lagged: CustomEvent<{ topic: string; count: number }>;
}

/** The browser's storage for this origin, in bytes. */
export interface StorageInfo {
  /** By everything of this origin: this peer's own files, fetched ones, and what else the page stores. */
  used: number;
  quota?: number;
  /** The browser promised not to clear it when space runs short. */
  persistent: boolean;
}

/**
 * A peer in this tab. Comes from {@link connect}.
 *
 * Every call may also reject with `CLOSED` or `STORAGE`. Code written for the client of the program p2p-webapp works
 * with this one; it may also make a client first and {@link P2PWebAppClient.connect | connect} it then.
 */
export class P2PWebAppClient extends EventTarget {
  /** Not connected yet: until it is, what it says of itself is `null`. */
  constructor();

  /**
   * Opens the peer as {@link connect} does, and returns this client. One that was closed can be connected again.
   * @throws {PeerError} as {@link connect}; `ALREADY_OPEN` also when this client is connected already
   */
  connect(options?: ConnectOptions | string): Promise<this>;

  /** Who this peer is, for others: `12D3Koo…`. */
  readonly peerID: string;
  /** The same as a DID, `did:key:z6Mk…`: an id of this peer for documents and for {@link GetOptions.requesterId}. */
  readonly did: string;
  /** The private key of this identity, in base64 (libp2p's protobuf form). Whoever has it is this peer. */
  readonly peerKey: string;
  /**
   * Resolves when the DHT can be asked, with `true`; with `false` when nobody who serves it was found within 30 s of
   * the start, or when there is nobody to wait for. It need not be awaited: what asks the DHT (`findPeer`, `provide`,
   * a fetch, topics) waits for it by itself. Rejects only on a
   * client that is not connected (`CLOSED`). Later changes are in `status().dht`, with the event `update`.
   *
   * ```js
   * import { connect } from 'tabpeer';
   *
   * const peer = await connect({ relays: [] });
   * console.assert((await peer.dhtReady) === false); // nobody to ask
   * ```
   */
  readonly dhtReady: Promise<boolean>;
  /** Version of this package. */
  readonly version: string;
  /** Whether others can reach this peer through a relay, or a peer other than a relay is connected. */
  readonly connected: boolean;
  /** The CID of this peer's whole tree of files. */
  readonly rootCID: string;

  /**
   * Stores a file in this peer's tree; parents are made, a file that is there is replaced. When the
   * promise resolves, the file survives a crash of the tab or the browser, and other peers can get it.
   * Streams are not held in memory.
   *
   * ```js
   * import { connect } from 'tabpeer';
   *
   * const peer = await connect({ relays: [] });
   * const { fileCid, rootCid } = await peer.storeFile('photos/cat.txt', new Blob(['meow']));
   * console.assert(rootCid === peer.rootCID && fileCid.startsWith('bafkrei'));
   * ```
   * @throws {PeerError} `INVALID_PATH`, `NOT_A_DIRECTORY`, `IS_A_DIRECTORY`, `QUOTA_EXCEEDED`, `BAD_ARGUMENT`
   */
  storeFile(
    path: string,
    content: string | Uint8Array | ArrayBuffer | Blob | ReadableStream<Uint8Array | string>,
    options?: StoreOptions,
  ): Promise<StoreResult>;

  /**
   * Makes a directory and its parents; one that is there stays as it is.
   * @throws {PeerError} `INVALID_PATH`, `NOT_A_DIRECTORY`, `QUOTA_EXCEEDED`
   */
  createDirectory(path: string): Promise<StoreResult>;

  /**
   * Removes a file, or a directory with all that is in it, and frees what nothing else refers to.
   * @throws {PeerError} `INVALID_PATH`, `NOT_FOUND`, `NOT_A_DIRECTORY`, `QUOTA_EXCEEDED`
   */
  removeFile(path: string): Promise<{ rootCid: string }>;

  /**
   * The whole tree of a peer; of this one when none is given.
   *
   * ```js
   * import { connect } from 'tabpeer';
   *
   * const peer = await connect({ relays: [] });
   * await peer.storeFile('a/b.html', '<h1>b</h1>');
   * const { entries } = await peer.listFiles();
   * console.assert(entries['a'].type === 'directory');
   * console.assert(entries['a/b.html'].mimeType?.startsWith('text/html'));
   * ```
   * @throws {PeerError} `INVALID_PEER_ID`, `PEER_UNREACHABLE`, `UNSUPPORTED`, `PROTOCOL`, `TIMEOUT`, `TOO_LARGE`, `BAD_ARGUMENT`
   */
  listFiles(peerID?: string, options?: ListOptions): Promise<FileList>;

  /**
   * Gets a file or directory by CID: from this peer's storage, else from the fallback peer and the peers
   * that are connected, else from the other {@link SourceKind | sources}. All that arrives is verified.
   * Parts that have arrived stay when it is given up and are not fetched again. A file is kept and served to
   * others, until the site's data is cleared: no call frees a fetched file yet.
   *
   * ```js
   * import { connect } from 'tabpeer';
   *
   * const peer = await connect({ relays: [] });
   * const { fileCid } = await peer.storeFile('notes/a.txt', 'one');
   * const found = await peer.getFile(fileCid);
   * if (found.type === 'file') console.assert((await found.text()) === 'one');
   * else console.assert(Object.keys(found.entries).length > 0);
   * ```
   * @param fallbackPeerID asked before the other connected peers, even if it is not connected yet
   * @throws {PeerError} `INVALID_CID`, `INVALID_PEER_ID`, `NOT_FOUND`, `WRONG_CONTENT`, `BAD_CONTENT`,
   * `TOO_LARGE` (a file of 2 GiB or more does not fit an array), `BUSY`, `TIMEOUT`, `QUOTA_EXCEEDED`, `STORAGE`, `CORRUPT_BLOCK`, `BAD_ARGUMENT`
   */
  getFile(cid: string, fallbackPeerID?: string, options?: GetOptions & { stream?: false }): Promise<FileContent | DirectoryContent>;

  /**
   * The same, resolving as soon as it is known what the CID is: the bytes are read while they arrive.
   *
   * ```js
   * import { connect } from 'tabpeer';
   *
   * const peer = await connect({ relays: [] });
   * const { fileCid } = await peer.storeFile('notes/long.txt', 'a long text');
   * const file = await peer.getFile(fileCid, undefined, { stream: true });
   * if (file.type === 'file') {
   *   const part = await new Response(file.stream({ start: 2, end: 6 })).text();
   *   console.assert(part === 'long');
   * }
   * ```
   */
  getFile(cid: string, fallbackPeerID: string | undefined, options: GetOptions & { stream: true }): Promise<FileStream | DirectoryContent>;

  /**
   * `fetch` for `ipfs://CID/path` (or `/ipfs/CID/path`): GET and HEAD, the `Range` and `If-None-Match`
   * headers, an abort signal. The body streams while blocks arrive. A directory gives its `index.html`,
   * else its entries as JSON. As with `fetch`, what is not there is a response (404), not an error; what
   * cannot be got within the time is 504.
   *
   * ```js
   * import { connect } from 'tabpeer';
   *
   * const peer = await connect({ relays: [] });
   * const { rootCid } = await peer.storeFile('site/hello.html', '<h1>hello</h1>');
   * const response = await peer.fetch(`ipfs://${rootCid}/site/hello.html`);
   * console.assert(response.headers.get('content-type')?.startsWith('text/html'));
   * console.assert((await response.text()) === '<h1>hello</h1>');
   * ```
   */
  fetch(resource: string | URL, init?: { method?: string; headers?: HeadersInit; signal?: AbortSignal }): Promise<Response>;

  /**
   * Whether the whole file, or the directory's own listing, is in this browser's storage. Asks nobody.
   * @throws {PeerError} `INVALID_CID`
   */
  hasFile(cid: string): Promise<boolean>;

  /**
   * Tells the DHT that this peer has `cid`. Resolves when it is told; waits for {@link P2PWebAppClient.dhtReady}.
   * @throws {PeerError} `INVALID_CID`, `NOT_FOUND` (it is not stored here, or nobody who serves the DHT is known), `BUSY`
   */
  provide(cid: string): Promise<void>;

  /**
   * Connects with any libp2p peer, tabpeer, Helia or Kubo, and returns its id.
   * @param address a multiaddr that this browser can dial (WebSocket, WebTransport, a circuit)
   * @throws {PeerError} `INVALID_ADDRESS`, `PEER_UNREACHABLE`, `BUSY`
   */
  dial(address: string): Promise<string>;

  /**
   * Keeps peers connected from now on: dials them, again whenever they are gone (at least every 30 s, and at once
   * when the network comes back), and never closes them to make room. Resolves when that is noted, not when they are
   * connected: `peer:connect` tells that. At most 64 peers; not kept across sessions.
   *
   * ```js
   * import { connect } from 'tabpeer';
   *
   * const peer = await connect({ relays: [] });
   * peer.addEventListener('peer:connect', ({ detail }) => console.log(detail.peerID, detail.route));
   * await peer.addPeers(['12D3KooWR7EfNv5SLtgjMRjUwR8AvNu3hP4fLrtSa9fmHHXKYWNG']);
   * const { protected: kept, peers, storage } = await peer.status();
   * console.assert(kept.length === 1 && peers.length === 0 && storage.used >= 0);
   * await peer.removePeers(kept);
   * ```
   * @throws {PeerError} `INVALID_PEER_ID`, `BAD_ARGUMENT` (this peer's own id, for example), `TOO_LARGE`
   */
  addPeers(peerIDs: string[]): Promise<void>;

  /**
   * Keeps peers connected no longer. Connections stay while they are used.
   * @throws {PeerError} `INVALID_PEER_ID`, `BAD_ARGUMENT`
   */
  removePeers(peerIDs: string[]): Promise<void>;

  /**
   * Where a peer is: its addresses, best first, each fit for `dial`. They come from the connections that this peer
   * has and had, else from the DHT, which knows peers of this package that are connected with a relay, and
   * those that serve it. Anybody may answer there, and not all need be true: what comes within a second of the first
   * answer is collected. (To talk to a peer at the same relay, none of this is needed: `send` and the like find it.)
   *
   * ```js
   * import { connect, PeerError } from 'tabpeer';
   *
   * const peer = await connect();
   * try {
   *   const friend = '12D3KooWR7EfNv5SLtgjMRjUwR8AvNu3hP4fLrtSa9fmHHXKYWNG';
   *   const [address] = await peer.findPeer(friend, { timeout: 10_000 });
   *   await peer.dial(address);
   * } catch (error) {
   *   if (!(error instanceof PeerError)) throw error;
   *   console.log(error.code); // NOT_FOUND: nobody knows it
   * }
   * ```
   * @throws {PeerError} `NOT_FOUND`, `TIMEOUT`, `INVALID_PEER_ID`, `BAD_ARGUMENT` (this peer's own id, for example), `BUSY`
   */
  findPeer(peerID: string, options?: FindOptions): Promise<string[]>;

  /** How everything stands now: relays, peers, storage. To follow it, listen to {@link ConnectionEvents | update}; do not poll. */
  status(): Promise<Status>;

  /**
   * How much a peer is trusted, 0 (unless set) to 10: raises it in the order in which peers are asked. Not kept across
   * sessions.
   * @throws {PeerError} at once, not by a promise: `INVALID_PEER_ID`, `BAD_ARGUMENT` (not 0 to 10)
   */
  setTrust(peerID: string, trust: number): void;

  /**
   * Receives what others send under a protocol, until `stop`. A protocol is a name that the apps of both sides
   * agree on, at most 127 bytes, best with a version (`chat/1`); at most 32 are started at a time.
   *
   * Messages of one peer come one after the other, in the order of its `send` calls, and none twice as long as
   * the page lives. `onData` may be async: the next message of the same peer waits until its promise settles;
   * those of other peers come meanwhile. An `onData` that throws or rejects is reported with `console.error`,
   * and the next message comes.
   *
   * ```js
   * import { connect } from 'tabpeer';
   *
   * const peer = await connect();
   * await peer.start('chat/1', (from, data) => console.log(`${from}: ${data.text}`));
   * console.log(`Talk to me: ${location.origin}${location.pathname}?peer=${peer.peerID}`);
   *
   * // Who opened this page by such a link says hello.
   * const other = new URLSearchParams(location.search).get('peer');
   * if (other) await peer.send(other, 'chat/1', { text: 'Hello!' }); // resolves when it is there
   * ```
   * @param onData gets the sender's id, which is proven, and what it sent: a JSON value, or a `Uint8Array`
   * @throws {PeerError} `ALREADY_STARTED`, `BAD_ARGUMENT` (the name is empty, too long, or holds control characters), `BUSY`
   */
  start(protocol: string, onData: (peerID: string, data: any) => unknown): Promise<void>;

  /**
   * Receives no more under a protocol. What `onData` was not called with was not acknowledged: its senders are
   * told. Stopping what is not started is no error.
   */
  stop(protocol: string): Promise<void>;

  /**
   * Sends a message to a peer, and resolves when the app there has it: when its `onData` is called. The protocol
   * need not be started here.
   *
   * Messages to one peer under one protocol arrive in the order of the calls; they need not be awaited, up to
   * 1024 messages and 16 MiB wait for their turn, more are refused with `BUSY`. A message goes out again when the
   * connection or the relay fails on the way. One whose `send` rejected may have arrived all the same: it is
   * its acknowledgement that did not. With a message that is given up all behind it are, so none overtakes another.
   *
   * @param data what `JSON.stringify` makes text of, at most 1 MiB of it, nested at most 127 deep; or bytes (a
   * buffer or a view of one), at most 1 MiB
   * @param options options, or, as p2p-webapp has it, a function that is called when the message is acknowledged
   * @throws {PeerError} `INVALID_PEER_ID`, `BAD_ARGUMENT` (no JSON value: a function, a BigInt, a cycle),
   * `TOO_LARGE`, `BUSY`, `UNSUPPORTED` (the other side has not started the protocol), `PEER_UNREACHABLE`,
   * `UNACKNOWLEDGED`, `TIMEOUT`
   */
  send(
    peerID: string,
    protocol: string,
    data: unknown,
    options?: SendOptions | (() => unknown),
  ): Promise<void>;

  /**
   * Subscribes to a topic: `onData` hears what others publish on it, until `unsubscribe`. Resolves when messages
   * can be expected to come, mostly after a second, or after five when nobody is there.
   *
   * Others on the topic are found through the relay, which knows its own clients, through the DHT, and by peers that
   * know of each other's: two pages at different relays hear each other if either the DHT or a third page knows both.
   *
   * Callbacks may be async; the next is called when the promise of the one before settles. One that throws or
   * rejects is reported with `console.error`. What is not taken in time (4096 messages, 8 MiB) is dropped, the
   * oldest first; a `topic_lagged` event of the client says how many. Nobody hears their own messages.
   *
   * ```js
   * import { connect } from 'tabpeer';
   *
   * const peer = await connect();
   * const here = new Set();
   * await peer.subscribe(
   *   'room/lobby',
   *   (from, data) => console.log(`${from}: ${data.text}`),
   *   (peerID, joined) => (joined ? here.add(peerID) : here.delete(peerID)),
   * );
   * await peer.publish('room/lobby', { text: 'Hello, everybody!' });
   * ```
   * @param topic at most 200 bytes, best with a name of the app in front; at most 256 topics at a time
   * @param onData gets the author's id, which is proven, and what was published: a JSON value or a `Uint8Array`. When it
   * was published is not proven: who has kept a message may send it again a minute later, or a year
   * @param onPeerChange is called for everybody who is on the topic, and when somebody comes (`true`) or goes. A relay
   * tells it of its other clients; at most 1000 are known
   * @throws {PeerError} `BAD_ARGUMENT`, `BUSY` (too many topics)
   */
  subscribe(
    topic: string,
    onData: (peerID: string, data: any) => unknown,
    onPeerChange?: ((peerID: string, joined: boolean) => unknown) | null,
    options?: SubscribeOptions,
  ): Promise<void>;

  /**
   * The same as an async iterable of messages. Leaving the loop unsubscribes; `unsubscribe` ends the loop.
   *
   * ```js
   * import { connect } from 'tabpeer';
   *
   * const peer = await connect();
   * setTimeout(() => peer.unsubscribe('room/lobby'), 10_000); // listens for ten seconds
   * for await (const { from, data } of peer.topic('room/lobby')) console.log(from, data);
   * ```
   */
  topic(topic: string, options?: SubscribeOptions): AsyncIterable<TopicMessage>;

  /** Ends every subscription of this client to a topic. One that was not subscribed to is no error. */
  unsubscribe(topic: string): Promise<void>;

  /**
   * Publishes on a topic, subscribed to it or not. Messages go out in the order of the calls and need not be
   * awaited; about 3000 a second and 4 MiB a second, more wait, and more than 4096 messages or 16 MiB that wait
   * are refused.
   * @param data what `JSON.stringify` makes text of, or bytes (a buffer or a view of one); at most 128 KiB
   * @returns whether it went to anybody; a relay counts, though nobody may be on the topic behind it
   * @throws {PeerError} `BAD_ARGUMENT` (no JSON value: a function, a BigInt, a cycle), `TOO_LARGE`, `BUSY`
   */
  publish(topic: string, data: unknown): Promise<boolean>;

  /**
   * Subscribes to a topic for the content that is announced there, until `unsubscribe`: the event `content:available`
   * of this client tells each, and this peer tells its connected peers, whose clients have the same event. They pass
   * it on to nobody, so it goes one step beyond the topic. Resolves as `subscribe` does.
   *
   * ```js
   * import { connect } from 'tabpeer';
   *
   * const peer = await connect();
   * peer.addEventListener('content:available', async ({ detail }) => {
   *   const found = await peer.getFile(detail.hash, detail.source);
   *   console.log(detail.source, found.type);
   * });
   * await peer.watchContent('gallery/new');
   * const { fileCid } = await peer.storeFile('photos/cat.txt', 'meow');
   * await peer.announceContent('gallery/new', fileCid);
   * ```
   * @throws {PeerError} `BAD_ARGUMENT`, `BUSY` (too many topics)
   */
  watchContent(topic: string, options?: SubscribeOptions): Promise<void>;

  /**
   * Publishes on a topic that there is new content: `{"type":"new-content","hash":CID}`. Those who watch the topic take
   * about 16 a second of one peer, or 1024 at once, and the same again after ten minutes.
   * @returns whether it went to anybody, as of {@link P2PWebAppClient.publish | publish}
   * @throws {PeerError} `INVALID_CID`, `BAD_ARGUMENT`, `BUSY`
   */
  announceContent(topic: string, cid: string): Promise<boolean>;

  /** Who is known to be on a topic, without this peer. Of a topic that is not subscribed: directly connected peers. */
  listPeers(topic: string): Promise<string[]>;

  /**
   * Gets one chunk (block) of a file from one peer: by Bitswap, else from its `httpUrl`; three attempts,
   * 250, 500 and 1000 ms apart. Events tell how it gets on. The chunk is kept.
   * @throws {PeerError} `INVALID_PEER_ID`, `INVALID_CID`, `BAD_ARGUMENT`, `NOT_FOUND`, `PEER_UNREACHABLE`, `BUSY`
   */
  startChunkDownload(peer: string, cid: string, fileHash: string, chunkIndex: number, options?: ChunkDownloadOptions): Promise<void>;

  /**
   * Gets a whole file from several peers at once, chunk by chunk; each chunk is asked of another peer when
   * one fails. Chunks that are stored are not fetched again, also after a reload.
   * @throws {PeerError} at once: `INVALID_CID`, `INVALID_PEER_ID`, `BAD_ARGUMENT`, `BUSY`
   */
  downloadFile(cid: string, options: DownloadOptions): Download;

  addEventListener<K extends keyof ChunkEvents>(
    type: K,
    listener: (event: ChunkEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener<K extends keyof ContentEvents>(
    type: K,
    listener: (event: ContentEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener<K extends keyof TopicEvents>(
    type: K,
    listener: (event: TopicEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener<K extends keyof ConnectionEvents>(
    type: K,
    listener: (event: ConnectionEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;

  /** How much this origin stores and may store. Fetched files count, and stay until the site's data is cleared. */
  storage(): Promise<StorageInfo>;

  /** Disconnects and closes the storage; calls under way reject with `CLOSED`. Safe to call twice. */
  close(): Promise<void>;

  [Symbol.asyncDispose](): Promise<void>;
}
