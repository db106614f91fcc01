//! The peer: the whole API in plain Rust. What JS calls, what native tests use.
//!
//! A [`Peer`] is a cheap handle; its parts run as tasks of their own (the network's event loop, the
//! tree's owner, the server of the files protocol). Dropping a call's future cancels the call.

mod convert;
mod fetch;
pub mod import;
mod read;
mod serve;
mod tree;

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::future::{Either, select};
use libp2p::{PeerId, identity::Keypair};

pub use self::fetch::{Content, FileInfo};
use self::tree::{Edit, TreeHandle};
use crate::{
    config::{self, PeerConfig},
    content::{
        block::Cid,
        directory::{Entry, EntryKind},
        path::TreePath,
        profile::Profile,
    },
    error::{Error, Result},
    exchange::webapp::FileList,
    network::{Network, NetworkConfig, config::CLOSE_TIMEOUT},
    platform::{
        BoxStream, Lock, MaybeSend, MaybeSync,
        database::{Databases, Usage},
        time,
    },
    store::Store,
};

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
        let network = Network::start(NetworkConfig {
            relays: config.relays,
            listen: config.listen,
            ..NetworkConfig::new(keypair.clone())
        })
        .map_err(convert::start_error)?;
        serve::serve(&network, store.clone(), tree.clone()).await.map_err(convert::start_error)?;
        network.wait_online(config.relay_wait).await;
        let flights = fetch::Flights::default();
        Ok(Self {
            inner: Arc::new(Inner {
                keypair,
                peer_id,
                store,
                tree,
                network,
                flights,
                lock: Mutex::new(Some(lock)),
            }),
        })
    }

    pub fn peer_id(&self) -> PeerId {
        self.inner.peer_id
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
        let edited = self.inner.tree.edit(Edit::Insert(path, entry), Some(session)).await?;
        Ok(Stored { file: edited.cid.unwrap_or(file.cid), root: edited.root })
    }

    /// Makes a directory and its parents; one that is there stays as it is.
    pub async fn create_directory(&self, path: &str) -> Result<Stored> {
        let path = file_path(path)?;
        let edited = self.inner.tree.edit(Edit::CreateDirectory(path), None).await?;
        Ok(Stored { file: edited.cid.unwrap_or(edited.root), root: edited.root })
    }

    /// Removes a file or a whole directory; returns the new root.
    pub async fn remove_file(&self, path: &str) -> Result<Cid> {
        let path = file_path(path)?;
        Ok(self.inner.tree.edit(Edit::Remove(path), None).await?.root)
    }

    /// The whole tree of `peer`, or of this peer.
    pub async fn list_files(&self, peer: Option<PeerId>) -> Result<Arc<FileList>> {
        match peer {
            Some(peer) if peer != self.inner.peer_id => {
                self.inner.flights.list(&self.inner.network, peer).await
            }
            _ => self.inner.tree.list().await,
        }
    }

    /// Finds a file or directory: here, else at `fallback`, else at the connected peers; what was
    /// fetched is kept. A file's bytes are then read with [`Peer::read`].
    pub async fn get_file(
        &self,
        cid: Cid,
        fallback: Option<PeerId>,
        options: GetOptions,
    ) -> Result<Content> {
        let work = fetch::get(self.clone(), cid, fallback, options.progress);
        match options.timeout {
            None => work.await,
            Some(after) => time::timeout(after, work)
                .await
                .unwrap_or_else(|_| Err(Error::Timeout { what: format!("getting {cid}"), after })),
        }
    }

    /// The bytes of a file that is stored here, in order, verified block by block.
    pub fn read(&self, file: Cid) -> ByteStream {
        read::read(self.inner.store.clone(), file)
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
        self.inner.network.close().await;
        self.inner.tree.close();
        self.inner.store.close().await;
        self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Options of [`Peer::store_file`].
#[derive(Default)]
pub struct StoreOptions<'a> {
    pub profile: Profile,
    /// Size of the source, if known, for progress only.
    pub total: Option<u64>,
    pub progress: Option<&'a dyn ProgressSink>,
}

/// Options of [`Peer::get_file`].
#[derive(Default)]
pub struct GetOptions {
    /// For the whole call; without it a transfer may take as long as bytes keep arriving.
    pub timeout: Option<Duration>,
    pub progress: Option<Arc<dyn ProgressSink>>,
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
