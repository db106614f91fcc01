//! Downloads of chunks, kept with what else has come of a file.

use std::sync::Arc;

use super::{
    Peer, Stored, convert,
    download::{Download as Kept, Downloads},
    file_path, read,
    tree::Edit,
};
use crate::{
    content::{
        block::{Block, Cid},
        dagpb::PbNode,
        directory::{Entry, EntryKind},
    },
    error::{Error, Result},
    exchange::chunks::{
        ChunkEvents, ChunkKeeper, ChunkRequest, ChunkStore, Download, DownloadRequest,
    },
    platform::BoxFuture,
    store::Store,
};

impl Peer {
    /// Gets one chunk of a file from one peer.
    pub fn start_chunk_download(&self, request: ChunkRequest) -> Result<(Download, ChunkEvents)> {
        self.inner.chunks.start_chunk_download(request)
    }

    /// Gets a whole file from several peers at once.
    pub fn download_file(&self, request: DownloadRequest) -> Result<(Download, ChunkEvents)> {
        self.inner.chunks.download(request)
    }

    /// Puts a file that is stored here into the tree, at `path`.
    pub async fn place(&self, path: &str, file: Cid) -> Result<Stored> {
        let path = file_path(path)?;
        let store = &self.inner.store;
        let root = store.get(&file).await?.ok_or_else(|| convert::missing(&file))?;
        if read::is_directory(&root)? {
            return Err(Error::IsADirectory { path: file.to_string() });
        }
        let entry = Entry { cid: file, tsize: tsize(&root), kind: EntryKind::File };
        let edited = self.inner.tree.edit(Edit::Insert(path, entry), None).await?;
        Ok(Stored { file: edited.cid.unwrap_or(file), root: edited.root })
    }
}

/// Bytes of all blocks of the file, as its root says.
fn tsize(root: &Block) -> u64 {
    let links = PbNode::decode(root.data()).map(|node| node.links).unwrap_or_default();
    let below = links.iter().fold(0u64, |sum, link| sum.saturating_add(link.tsize));
    below.saturating_add(root.data().len() as u64)
}

/// Keeps chunks as the parts of their file.
pub(super) struct Keeping {
    pub store: Store,
    pub downloads: Downloads,
}

impl ChunkStore for Keeping {
    fn open(&self, root: Cid) -> BoxFuture<Result<Arc<dyn ChunkKeeper>>> {
        let (store, downloads) = (self.store.clone(), self.downloads.clone());
        Box::pin(async move {
            let kept = downloads.open(root).await?;
            Ok(Arc::new(Keeper { store, kept }) as Arc<dyn ChunkKeeper>)
        })
    }
}

struct Keeper {
    store: Store,
    kept: Arc<Kept>,
}

impl ChunkKeeper for Keeper {
    fn has_many(&self, cids: Vec<Cid>) -> BoxFuture<Result<Vec<bool>>> {
        let store = self.store.clone();
        Box::pin(async move { Ok(store.has_many(&cids).await?) })
    }

    fn get(&self, cid: Cid) -> BoxFuture<Result<Option<Block>>> {
        let store = self.store.clone();
        // A damaged block is fetched again.
        Box::pin(async move {
            match read::block(&store, &cid).await {
                Err(Error::CorruptBlock { .. }) => Ok(None),
                found => found,
            }
        })
    }

    fn keep(&self, block: Block) -> BoxFuture<Result<()>> {
        let kept = self.kept.clone();
        Box::pin(async move { kept.put(&block, false).await })
    }

    fn finish(&self) -> BoxFuture<Result<()>> {
        let kept = self.kept.clone();
        Box::pin(async move { kept.finish().await })
    }
}
