//! Downloads of a file's chunks from several peers at once (chunk download specification).
//!
//! A chunk is a leaf of the file. [`ChunkDownloads::start_chunk_download`] gets one from one peer;
//! [`ChunkDownloads::download`] gets a whole file: its root and the nodes below it first, then the
//! leaves, spread over the peers by the pure [`coordinator`]. What has come is kept at once, so that
//! nothing is fetched twice, not even after a reload.

pub mod coordinator;
mod driver;
pub mod events;
pub mod http;
pub mod outline;

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p::PeerId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use self::{coordinator::MAX_SEEDERS, driver::Run, http::check_url};
use crate::{
    config::MAX_TEXT,
    content::block::{Block, Cid, RAW},
    error::{Error, Result},
    exchange::bitswap::Bitswap,
    platform::{BoxFuture, MaybeSend, MaybeSync, task},
};

pub use events::{ChunkEvent, ChunkEvents};

/// Downloads at once.
pub const MAX_DOWNLOADS: usize = 64;

/// Where chunks are kept.
pub trait ChunkStore: MaybeSend + MaybeSync + 'static {
    /// What has come of `root`, kept on as long as the answer lives and a while longer.
    fn open(&self, root: Cid) -> BoxFuture<Result<Arc<dyn ChunkKeeper>>>;
}

/// What has come of one root, whole or not.
pub trait ChunkKeeper: MaybeSend + MaybeSync + 'static {
    /// Which of them are here.
    fn has_many(&self, cids: Vec<Cid>) -> BoxFuture<Result<Vec<bool>>>;

    fn get(&self, cid: Cid) -> BoxFuture<Result<Option<Block>>>;

    /// Keeps a block so that it survives a reload, now or soon.
    fn keep(&self, block: Block) -> BoxFuture<Result<()>>;

    /// Everything below the root is here.
    fn finish(&self) -> BoxFuture<Result<()>>;
}

/// A peer that has the file, or some of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeder {
    pub peer: PeerId,
    /// The metadata's `peer_http_url`; [`http`] says what it may be.
    pub http_url: Option<String>,
}

/// One chunk from one peer.
#[derive(Debug, Clone)]
pub struct ChunkRequest {
    pub peer: PeerId,
    pub cid: Cid,
    /// As it comes back in the events; if it is a CID, the chunk is kept as a part of that file.
    pub file_hash: String,
    pub chunk_index: u32,
    pub http_url: Option<String>,
    /// As it comes back in the events.
    pub path: String,
    /// Where the chunk's bytes stand in the file: needed if the URL is the file's.
    pub range: Option<Range<u64>>,
}

/// A whole file.
#[derive(Debug, Clone)]
pub struct DownloadRequest {
    pub root: Cid,
    pub peers: Vec<Seeder>,
    /// As they come back in the events.
    pub file_hash: String,
    pub path: String,
}

/// How a download ended, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownloadEnd {
    /// All is stored.
    Complete,
    /// What had come is kept.
    Cancelled,
}

/// Starts downloads; clones share their limits.
#[derive(Clone)]
pub struct ChunkDownloads {
    bitswap: Bitswap,
    store: Arc<dyn ChunkStore>,
    slots: Arc<Semaphore>,
}

/// A download under way. Dropping the last clone cancels it.
#[derive(Clone, Debug)]
pub struct Download {
    control: Arc<ControlOnDrop>,
    end: watch::Receiver<Option<Result<DownloadEnd>>>,
}

/// What the handle tells the driver.
#[derive(Debug, Default)]
struct Control {
    wish: Mutex<Wish>,
    changed: Notify,
}

#[derive(Debug, Default, Clone, Copy)]
struct Wish {
    paused: bool,
    cancelled: bool,
}

#[derive(Debug)]
struct ControlOnDrop(Arc<Control>);

impl ChunkDownloads {
    pub fn new(bitswap: Bitswap, store: Arc<dyn ChunkStore>) -> Self {
        Self { bitswap, store, slots: Arc::new(Semaphore::new(MAX_DOWNLOADS)) }
    }

    /// Gets one chunk from one peer: three attempts, each by Bitswap and then by HTTP. The events end
    /// with `Complete` or `Failed`; [`Download::finished`] says the same.
    pub fn start_chunk_download(&self, request: ChunkRequest) -> Result<(Download, ChunkEvents)> {
        let ChunkRequest { peer, cid, file_hash, chunk_index, http_url, path, range } = request;
        let seeders = vec![Seeder { peer, http_url }];
        self.start(seeders, file_hash, path, move |mut run, store| {
            Box::pin(async move {
                let root: Option<Cid> = run.file_hash().parse().ok();
                let keeper = store.open(root.unwrap_or(cid)).await?;
                let end = run.chunk(&keeper, cid, chunk_index, range).await?;
                // A block without links is a file of its own.
                if end == DownloadEnd::Complete && root.is_none() && cid.codec() == RAW {
                    keeper.finish().await?;
                }
                Ok(end)
            })
        })
    }

    /// Gets a whole file from several peers at once.
    pub fn download(&self, request: DownloadRequest) -> Result<(Download, ChunkEvents)> {
        let DownloadRequest { root, peers, file_hash, path } = request;
        self.start(peers, file_hash, path, move |mut run, store| {
            Box::pin(async move {
                let keeper = store.open(root).await?;
                let end = run.file(&keeper, root).await?;
                if end == DownloadEnd::Complete {
                    keeper.finish().await?;
                }
                Ok(end)
            })
        })
    }

    fn start(
        &self,
        seeders: Vec<Seeder>,
        file_hash: String,
        path: String,
        work: impl FnOnce(Run, Arc<dyn ChunkStore>) -> BoxFuture<Result<DownloadEnd>>,
    ) -> Result<(Download, ChunkEvents)> {
        check(&seeders, &file_hash, &path)?;
        let busy = |_| Error::Busy { what: "downloads of chunks" };
        let slot = self.slots.clone().try_acquire_owned().map_err(busy)?;
        let control = Arc::<Control>::default();
        let (sender, events) = events::channel();
        let run = Run::new(&self.bitswap, seeders, (file_hash, path), sender, control.clone())?;
        let work = work(run, self.store.clone());
        let (reply, end) = watch::channel(None);
        drop(task::spawn(async move { finish(work, reply, slot).await }));
        Ok((Download { control: Arc::new(ControlOnDrop(control)), end }, events))
    }
}

async fn finish(
    work: BoxFuture<Result<DownloadEnd>>,
    reply: watch::Sender<Option<Result<DownloadEnd>>>,
    slot: OwnedSemaphorePermit,
) {
    let end = work.await;
    drop(slot);
    reply.send_replace(Some(end));
}

impl Download {
    /// Asks for nothing more, until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.control.0.change(|wish| wish.paused = true);
    }

    pub fn resume(&self) {
        self.control.0.change(|wish| wish.paused = false);
    }

    /// Ends it. What has come is kept.
    pub fn cancel(&self) {
        self.control.0.change(|wish| wish.cancelled = true);
    }

    /// Resolves when it has ended.
    pub async fn finished(&self) -> Result<DownloadEnd> {
        let mut end = self.end.clone();
        let end = end.wait_for(Option::is_some).await.map_err(|_| Error::Closed)?;
        end.clone().unwrap_or(Err(Error::Closed))
    }
}

impl Control {
    fn wish(&self) -> Wish {
        *self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Wish)) {
        change(&mut self.wish.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }
}

impl Drop for ControlOnDrop {
    fn drop(&mut self) {
        self.0.change(|wish| wish.cancelled = true);
    }
}

impl std::fmt::Debug for ChunkDownloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkDownloads").finish_non_exhaustive()
    }
}

fn check(seeders: &[Seeder], file_hash: &str, path: &str) -> Result<()> {
    let bad = |what, reason: &str| Err(Error::BadArgument { what, reason: reason.to_owned() });
    if seeders.is_empty() {
        return bad("peers", "there must be one at least");
    }
    if seeders.len() > MAX_SEEDERS {
        return bad("peers", "there are too many");
    }
    for url in seeders.iter().filter_map(|seeder| seeder.http_url.as_ref()) {
        if let Err(reason) = check_url(url) {
            return bad("httpUrl", reason);
        }
    }
    match (file_hash.len() > MAX_TEXT, path.len() > 4 * MAX_TEXT) {
        (true, _) => bad("fileHash", "it is too long"),
        (_, true) => bad("path", "it is too long"),
        _ => Ok(()),
    }
}
