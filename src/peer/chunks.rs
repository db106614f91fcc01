//! Chunk downloads of this peer: what comes is kept as parts of its file, as everything fetched is.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Peer,
    download::{Download, Downloads},
};
use crate::{
    content::block::{Block, Cid},
    error::Result,
    exchange::chunks::{
        ChunkEvents, ChunkKeeper, ChunkRequest, ChunkStore, Download as Running, DownloadRequest,
    },
    platform::{
        BoxFuture,
        time::{Duration, Instant},
    },
    store::Store,
};

/// Chunks that have come are written down at least as often as this.
const KEEP_EVERY: Duration = Duration::from_secs(1);

impl Peer {
    /// Gets one chunk of a file from one peer; see [`ChunkDownloads::start_chunk_download`].
    pub fn start_chunk_download(&self, request: ChunkRequest) -> Result<(Running, ChunkEvents)> {
        self.inner.chunks.start_chunk_download(request)
    }

    /// Gets a whole file from several peers at once; see [`ChunkDownloads::download`].
    pub fn download_file(&self, request: DownloadRequest) -> Result<(Running, ChunkEvents)> {
        self.inner.chunks.download(request)
    }
}

/// Where chunks are kept: with all else that was fetched.
pub(super) struct Chunks {
    pub store: Store,
    pub downloads: Downloads,
}

impl ChunkStore for Chunks {
    fn open(&self, root: Cid) -> BoxFuture<Result<Arc<dyn ChunkKeeper>>> {
        let (store, downloads) = (self.store.clone(), self.downloads.clone());
        Box::pin(async move {
            let download = downloads.open(root).await?;
            let kept = Arc::new(Mutex::new(Instant::now()));
            Ok(Arc::new(Keeper { store, download, kept }) as Arc<dyn ChunkKeeper>)
        })
    }
}

struct Keeper {
    store: Store,
    download: Arc<Download>,
    /// When it was written down last.
    kept: Arc<Mutex<Instant>>,
}

impl ChunkKeeper for Keeper {
    fn has_many(&self, cids: Vec<Cid>) -> BoxFuture<Result<Vec<bool>>> {
        let store = self.store.clone();
        Box::pin(async move { Ok(store.has_many(&cids).await?) })
    }

    fn get(&self, cid: Cid) -> BoxFuture<Result<Option<Block>>> {
        let store = self.store.clone();
        Box::pin(async move { Ok(store.get(&cid).await?) })
    }

    fn keep(&self, block: Block) -> BoxFuture<Result<()>> {
        let (download, kept) = (self.download.clone(), self.kept.clone());
        Box::pin(async move {
            download.put(&block, false).await?;
            let due = {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let due = kept.elapsed() >= KEEP_EVERY;
                if due {
                    *kept = Instant::now();
                }
                due
            };
            if due { download.keep().await } else { Ok(()) }
        })
    }

    fn finish(&self) -> BoxFuture<Result<()>> {
        let download = self.download.clone();
        Box::pin(async move { download.finish().await })
    }
}
