//! The peer: the whole API in plain Rust. What JS calls, what native tests use.
//!
//! A [`Peer`] is a cheap handle; its parts run as tasks of their own (the network's event loop, the
//! tree's owner, the server of the files protocol). Dropping a call's future cancels the call.

mod availability;
mod chunks;
mod connections;
mod convert;
mod download;
mod fetch;
pub mod import;
mod incoming;
mod messages;
mod open;
mod options;
mod place;
mod read;
mod serve;
mod sources;
mod swept;
mod telling;
mod topics;
mod tree;

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    future::{Either, select},
    stream,
};
use libp2p::{Multiaddr, PeerId, identity::Keypair};

pub use self::{
    availability::ContentWatch,
    connections::{Change, Changes, Overview},
    fetch::{Content, FileInfo},
    messages::SendOptions,
    open::FileReader,
    options::{FindOptions, GetOptions, ListOptions, OpenOptions, StoreOptions},
};
use self::{
    download::Downloads,
    incoming::{Incoming, OnFull},
    messages::Messages,
    sources::Exchange,
    topics::FileUpdates,
    tree::{Edit, TreeHandle},
};
use crate::boxmap::BoxMap;
use crate::{
    config::{self, PeerConfig},
    content::{
        block::Cid,
        directory::{Entry, EntryKind},
        path::TreePath,
    },
    error::{Error, Result},
    exchange::{
        bitswap::{Bitswap, PeerTraffic},
        capabilities::{Capabilities, did::did_of},
        chunks::ChunkDownloads,
        fetch::{FetchRequest, Fetcher},
        webapp::FileList,
    },
    messaging::availability::Availability,
    network::{Network, NetworkConfig, PeerStreams, config::CLOSE_TIMEOUT},
    platform::{
        BoxStream, Lock, MaybeSend, MaybeSync,
        database::{Databases, Usage},
        time,
    },
    store::Store,
};

/// How long a peer that was dialled may take to say what it speaks.
const IDENTIFY_PATIENCE: Duration = Duration::from_secs(5);
/// How much longer than its own time-out a fetch may take to say so.
const GRACE: Duration = Duration::from_millis(250);

/// Bytes coming in, in pieces of any size.
pub type ByteStream = BoxStream<Result<Bytes>>;

/// The database that keeps the default identity; each identity's data is in `tabpeer-<peer id>`.
const REGISTRY: &str = "tabpeer";
/// How long a new page waits for the one it replaces to let go of the peer: a reload overlaps, and a
/// close may take as long as the network's.
const LOCK_WAIT: Duration = Duration::from_millis(500).saturating_add(CLOSE_TIMEOUT);

/// Told as work goes on: bytes done, and of how many if known.
pub trait ProgressSink: MaybeSend + MaybeSync {
    fn report(&self, done: u64, total: Option<u64>);
}

impl<F: Fn(u64, Option<u64>) + MaybeSend + MaybeSync> ProgressSink for F {
    fn report(&self, done: u64, total: Option<u64>) {
        self(done, total);
    }
}

/// What a call that stores came to: the CID of the file or directory, and of the whole tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub file: Cid,
    pub root: Cid,
}

/// A running peer.
#[derive(Clone)]
pub struct Peer {
    inner: Arc<Inner>,
}

struct Inner {
    keypair: Keypair,
    peer_id: PeerId,
    store: Store,
    tree: TreeHandle,
    network: Network,
    messages: Messages,
    availability: Availability,
    exchange: Exchange,
    downloads: Downloads,
    chunks: ChunkDownloads,
    updates: FileUpdates,
    flights: fetch::Flights,
    /// Gone once the peer is closed.
    lock: Mutex<Option<Lock>>,
}

impl Peer {
    /// Opens the peer's store in `databases` and starts its network. Resolves when a relay is
    /// reserved, or none can be reached at the moment, or none is configured.
    pub async fn open(config: PeerConfig, databases: Arc<dyn Databases>) -> Result<Self> {
        let keypair = match config.keypair {
            Some(keypair) => keypair,
            None => kept_identity(&*databases).await?,
        };
        let peer_id = keypair.public().to_peer_id();
        let name = format!("{REGISTRY}-{peer_id}");
        let lock = Lock::acquire(&name, LOCK_WAIT)
            .await
            .map_err(|error| Error::Storage { reason: error.to_string() })?
            .ok_or(Error::AlreadyOpen { peer: peer_id })?;
        let store = Store::open(databases.open(name).await?).await?;
        let tree = TreeHandle::open(store.clone()).await?;
        let relays = config.relays.clone();
        let network = Network::start(NetworkConfig {
            relays: config.relays,
            listen: config.listen,
            search: config.search,
            ..NetworkConfig::new(keypair.clone())
        })
        .map_err(convert::start_error)?;
        let messages = Messages::new(&network);
        serve::serve(&network, store.clone(), tree.clone()).await.map_err(convert::start_error)?;
        let availability = Availability::start(Arc::new(network.clone())).await;
        let availability = availability.map_err(convert::start_error)?;
        let exchange = sources::start(&network, &store, &relays, config.exchange).await?;
        let downloads = Downloads::new(store.clone(), exchange.capabilities.clone()).await?;
        let kept = chunks::Chunks { store: store.clone(), downloads: downloads.clone() };
        let chunks = ChunkDownloads::new(exchange.bitswap.clone(), Arc::new(kept));
        network.wait_online(config.relay_wait).await;
        store.expect_blocks();
        if let Some(capabilities) = &exchange.capabilities {
            telling::tell_all(capabilities, &network, &tree, &downloads);
        }
        let flights = fetch::Flights::default();
        let updates = FileUpdates { topic: config.file_update_topic };
        Ok(Self {
            inner: Arc::new(Inner {
                keypair,
                peer_id,
                store,
                tree,
                network,
                messages,
                availability,
                exchange,
                downloads,
                chunks,
                updates,
                flights,
                lock: Mutex::new(Some(lock)),
            }),
        })
    }

    pub fn peer_id(&self) -> PeerId {
        self.inner.peer_id
    }

    /// The DID of this peer: `did:key` of its key. `None`: the key is no Ed25519 key, which none of ours is.
    pub fn did(&self) -> Option<String> {
        did_of(&self.inner.peer_id)
    }

    /// The identity, as [`config::parse_key`] reads it.
    pub fn peer_key(&self) -> Result<String> {
        config::format_key(&self.inner.keypair)
    }

    /// Whether a relay or another peer is connected at this moment.
    pub fn connected(&self) -> bool {
        self.inner.network.status().current().online()
    }

    /// The root of this peer's tree.
    pub fn root(&self) -> Cid {
        self.inner.tree.root()
    }

    pub fn network(&self) -> &Network {
        &self.inner.network
    }

    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Stores `source` at `path`. Resolves when file and tree are durable.
    pub async fn store_file(
        &self,
        path: &str,
        source: ByteStream,
        options: StoreOptions<'_>,
    ) -> Result<Stored> {
        let path = file_path(path)?;
        let import = import::import(
            &self.inner.store,
            options.profile,
            source,
            options.total,
            options.progress,
        );
        let (session, file) = self.unless_closed(import).await?;
        let entry = Entry { cid: file.cid, tsize: file.tsize, kind: EntryKind::File };
        let before = self.root();
        let edited = self.inner.tree.edit(Edit::Insert(path, entry), Some(session)).await?;
        let stored = Stored { file: edited.cid.unwrap_or(file.cid), root: edited.root };
        self.tell_edit(before, &stored);
        Ok(stored)
    }

    /// Makes a directory and its parents; one that is there stays as it is.
    pub async fn create_directory(&self, path: &str) -> Result<Stored> {
        let path = file_path(path)?;
        let before = self.root();
        let edited = self.inner.tree.edit(Edit::CreateDirectory(path), None).await?;
        let stored = Stored { file: edited.cid.unwrap_or(edited.root), root: edited.root };
        self.tell_edit(before, &stored);
        Ok(stored)
    }

    /// Removes a file or a whole directory; returns the new root.
    pub async fn remove_file(&self, path: &str) -> Result<Cid> {
        let path = file_path(path)?;
        let before = self.root();
        let root = self.inner.tree.edit(Edit::Remove(path), None).await?.root;
        // What was in it is told until the next start: it may stand elsewhere too.
        self.tell_edit(before, &Stored { file: root, root });
        Ok(root)
    }

    fn tell_edit(&self, before: Cid, stored: &Stored) {
        telling::tell_edit(self.capabilities(), before, stored);
        self.inner.updates.tell(&self.inner.network);
    }

    /// The whole tree of `peer`, or of this peer.
    pub async fn list_files(
        &self,
        peer: Option<PeerId>,
        options: ListOptions,
    ) -> Result<Arc<FileList>> {
        match peer {
            Some(peer) if peer != self.inner.peer_id => {
                self.inner.flights.list(&self.inner.network, peer, options).await
            }
            _ => self.inner.tree.list().await,
        }
    }

    /// Finds a file or directory: here, else where the chain of sources has it, `fallback` among the
    /// first; what was fetched is kept. A file's bytes are then read with [`Peer::read`].
    pub async fn get_file(
        &self,
        cid: Cid,
        fallback: Option<PeerId>,
        options: GetOptions,
    ) -> Result<Content> {
        let after = options.timeout;
        in_time(cid, after, fetch::get(self.clone(), cid, fallback, options)).await
    }

    /// Opens a file that may still have to come: resolves as soon as its first bytes are known.
    pub async fn open_file(&self, file: Cid, options: OpenOptions) -> Result<FileReader> {
        let OpenOptions { fallback, get } = options;
        let after = get.timeout;
        let work = async {
            // The time is for the opening: a stream may take as long as its reader likes.
            let request = FetchRequest { timeout: None, ..get.request(file, fallback) };
            let incoming = Incoming::start(self, request, OnFull::GoOn, get.progress()).await?;
            open::open(incoming).await
        };
        in_time(file, after, work).await
    }

    /// What is at `path` below the directory `root`; the nodes on the way are fetched if need be.
    pub async fn resolve_path(&self, root: Cid, path: &str, options: OpenOptions) -> Result<Entry> {
        let path = TreePath::parse_or_root(path)?;
        let OpenOptions { fallback, get } = options;
        let (after, request) = (get.timeout, get.request(root, fallback));
        let work = async {
            let progress = Arc::new(fetch::Listeners::default());
            Incoming::start(self, request, OnFull::GoOn, progress).await?.resolve(&path).await
        };
        in_time(root, after, work).await
    }

    /// Whether all of a file, or the whole listing of a directory, is stored here.
    pub async fn has_file(&self, cid: Cid) -> Result<bool> {
        match read::has_all(&self.inner.store, cid).await {
            Err(Error::CorruptBlock { .. }) => Ok(false),
            outcome => outcome,
        }
    }

    /// Tells the DHT that this peer has `cid`, of which at least the block it names must be here.
    pub async fn provide(&self, cid: Cid) -> Result<()> {
        if !self.inner.store.has(&cid).await? {
            return Err(convert::missing(&cid));
        }
        let told = self.inner.network.provide(cid.hash().to_bytes()).await;
        told.map_err(convert::network_error)
    }

    /// How the connected peers have done, by Bitswap.
    pub async fn exchange_stats(&self) -> BoxMap<PeerId, PeerTraffic> {
        self.inner.exchange.bitswap.stats().await
    }

    /// The fetches of this peer, for protocols that are built on them.
    pub fn fetcher(&self) -> &Fetcher {
        &self.inner.exchange.fetcher
    }

    /// What peers have told of themselves; `None`: switched off.
    pub fn capabilities(&self) -> Option<&Capabilities> {
        self.inner.exchange.capabilities.as_ref()
    }

    pub fn bitswap(&self) -> &Bitswap {
        &self.inner.exchange.bitswap
    }

    /// Connects with a peer, ours or any other, and says who it is. Waits a while for what the peer
    /// says it speaks: before that, it is asked for nothing.
    pub async fn dial(&self, address: Multiaddr) -> Result<PeerId> {
        let peer = self.inner.network.dial(address).await.map_err(convert::network_error)?;
        let mut peers = PeerStreams::peers(&self.inner.network);
        let _ = time::timeout(IDENTIFY_PATIENCE, async {
            let mut known = peers.current();
            while known.get(&peer).is_none_or(|info| info.agent.is_none())
                && let Some(next) = peers.changed().await
            {
                known = next;
            }
        })
        .await;
        Ok(peer)
    }

    /// How much a peer is trusted, from 0 to 10, for the strategies.
    pub fn set_trust(&self, peer: PeerId, trust: f64) {
        let exchange = &self.inner.exchange;
        sources::metrics(&exchange.metrics).set_trust(peer, trust, exchange.fetcher.elapsed());
    }

    /// The bytes of a file that is stored here, in order; each block was verified when the
    /// store first read it.
    pub fn read(&self, file: Cid) -> ByteStream {
        read::read(self.inner.store.clone(), file)
    }

    /// The same of a file that [`Peer::get_file`] has just found.
    pub fn read_file(&self, file: &FileInfo) -> ByteStream {
        match &file.bytes {
            Some(bytes) => Box::pin(stream::iter([Ok(bytes.clone())])),
            None => self.read(file.cid),
        }
    }

    pub async fn usage(&self) -> Result<Usage> {
        Ok(self.inner.store.usage().await?)
    }

    /// Gives `work` up when the peer is closed: a source may never deliver again.
    async fn unless_closed<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut status = self.inner.network.status();
        let closed = status.wait_for(|status| status.closed);
        match select(pin!(work), pin!(closed)).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Err(Error::Closed),
        }
    }

    /// Stops the network, then the store; calls under way fail with `CLOSED`. Safe to call twice.
    pub async fn close(&self) {
        self.inner.messages.close();
        self.inner.network.close().await;
        self.inner.tree.close();
        self.inner.store.close().await;
        self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// `work` on `cid`, given up after a while. A fetch that times out by itself names who was asked; so it
/// gets the first word.
async fn in_time<T>(
    cid: Cid,
    after: Option<Duration>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(after) = after else { return work.await };
    let late = || Err(Error::Timeout { what: format!("getting {cid}"), after });
    time::timeout(after + GRACE, work).await.unwrap_or_else(|_| late())
}

/// The identity of this origin, made at the first call.
async fn kept_identity(databases: &dyn Databases) -> Result<Keypair> {
    let registry = Store::open(databases.open(REGISTRY.to_owned()).await?).await?;
    let kept = match registry.identity().await? {
        Some(bytes) => bytes,
        None => {
            let fresh = Keypair::generate_ed25519()
                .to_protobuf_encoding()
                .map_err(|error| Error::InvalidKey { reason: error.to_string() })?;
            registry.set_identity_if_absent(fresh.into()).await?
        }
    };
    registry.close().await;
    Keypair::from_protobuf_encoding(&kept).map_err(|error| Error::InvalidKey {
        reason: format!("the kept identity is damaged: {error}"),
    })
}

fn file_path(text: &str) -> Result<TreePath> {
    Ok(TreePath::parse(text)?)
}
