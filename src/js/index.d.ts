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
  /** An argument has the wrong type or value; the message names it. */
  | 'BAD_ARGUMENT'
  /** The bytes are those of the CID, but not a valid UnixFS file or directory. */
  | 'BAD_CONTENT'
  /** The peer is doing too much at once; try again later. */
  | 'BUSY'
  /** The client was closed. */
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
   * Relays to meet other peers at: URLs of relays (`https://relay.example`, the best form: the relay
   * tells its present addresses there) or multiaddrs. `connect` resolves as soon as one answers.
   * Left out: the page's own origin is asked, so a page served by a relay needs no configuration.
   * At most 16. An empty list: no network.
   */
  relays?: string[];
  /**
   * The identity to use: a `peerKey` of an earlier session. Files belong to an identity. Left out: the
   * identity is made once and kept in the browser's storage.
   */
  peerKey?: string;
  /** Longest wait for a relay, in milliseconds (default 10 000). After it the peer is there, offline, and goes on trying. */
  timeout?: number;
  /** Gives up; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/**
 * Opens this browser's peer. Works offline too: then `connected` is false until a relay is reached.
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
  /** The bytes in base64. */
  readonly content: string;
  /** The bytes read as UTF-8. */
  text(): Promise<string>;
  blob(): Blob;
  stream(): ReadableStream<Uint8Array<ArrayBuffer>>;
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
 * Every call may also reject with `CLOSED` or `STORAGE`.
 */
export class P2PWebAppClient {
  private constructor();

  /** Who this peer is, for others: `12D3Koo…`. */
  readonly peerID: string;
  /** The private key of this identity, in base64 (libp2p's protobuf form). Whoever has it is this peer. */
  readonly peerKey: string;
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
   * @throws {PeerError} `INVALID_PATH`, `NOT_A_DIRECTORY`
   */
  createDirectory(path: string): Promise<StoreResult>;

  /**
   * Removes a file, or a directory with all that is in it, and frees what nothing else refers to.
   * @throws {PeerError} `INVALID_PATH`, `NOT_FOUND`
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
   * @throws {PeerError} `INVALID_PEER_ID`, `PEER_UNREACHABLE`, `UNSUPPORTED`, `PROTOCOL`, `TIMEOUT`, `TOO_LARGE`
   */
  listFiles(peerID?: string): Promise<FileList>;

  /**
   * Gets a file or directory by CID: from this peer's storage, else from the fallback peer, else from
   * the peers that are connected. All that arrives is verified. A file is then kept and served to
   * others, until the site's data is cleared: no call frees a fetched file yet. The listing of another
   * peer's directory is not kept.
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
   * `TOO_LARGE` (a file of 2 GiB or more does not fit an array), `BUSY`, `TIMEOUT`, `QUOTA_EXCEEDED`, `STORAGE`
   */
  getFile(cid: string, fallbackPeerID?: string, options?: GetOptions): Promise<FileContent | DirectoryContent>;

  /** How much this origin stores and may store. Fetched files count, and stay until the site's data is cleared. */
  storage(): Promise<StorageInfo>;

  /** Disconnects and closes the storage; calls under way reject with `CLOSED`. Safe to call twice. */
  close(): Promise<void>;

  [Symbol.asyncDispose](): Promise<void>;
}
