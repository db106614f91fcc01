//! What is stored here: telling what a CID is, and a file as a stream. The pure readers, fed from
//! the store in windows of blocks.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream;

use super::{ByteStream, Content, FileInfo, convert};
use crate::{
    content::{
        block::{Block, Cid, DAG_PB},
        dagpb::PbNode,
        directory::{DirParams, Tree, TreeError},
        mime,
        path::TreePath,
        profile::Profile,
        read::{ReadStep, Reader},
        unixfs::{Kind, UnixFs},
        walk::{Leaves, Walk},
    },
    error::{Error, Result},
    store::{Store, StoreError},
};

/// Blocks asked of the store at a time: with 1 MiB leaves, how much is held while reading.
const WINDOW: usize = 4;
/// Interior nodes asked of the store at a time.
const WALK_WINDOW: usize = 64;
/// Leaves whose presence is asked for at a time.
const LEAVES_WINDOW: usize = 1024;

/// What is stored of a CID.
pub(super) enum Stored {
    /// Every block of a file, every node of a directory (not what the directory names).
    Whole(Content),
    /// The root's block.
    Partly,
    Nothing,
}

/// What `cid` is, if all of it is stored.
pub(crate) async fn stored(store: &Store, cid: Cid) -> Result<Option<Content>> {
    match look(store, cid).await? {
        Stored::Whole(content) => Ok(Some(content)),
        Stored::Partly | Stored::Nothing => Ok(None),
    }
}

pub(super) async fn look(store: &Store, cid: Cid) -> Result<Stored> {
    let Some(root) = block(store, &cid).await? else { return Ok(Stored::Nothing) };
    if is_directory(&root)? {
        let entries = entries(store, cid).await?;
        let whole = entries.map(|entries| Stored::Whole(Content::Directory(entries)));
        return Ok(whole.unwrap_or(Stored::Partly));
    }
    if let Some(file) = one_block(&root)? {
        return Ok(Stored::Whole(Content::File(file)));
    }
    if !is_whole(store, &root).await? {
        return Ok(Stored::Partly);
    }
    let mut reading = Reading::new(store.clone(), cid, Some(0..mime::SNIFF_LEN as u64))?;
    let mut head = Vec::with_capacity(mime::SNIFF_LEN);
    while let Some(piece) = reading.next().await? {
        head.extend_from_slice(&piece);
    }
    let size = reading.reader.size().unwrap_or_default();
    let mime_type = mime::sniff(&head).to_owned();
    Ok(Stored::Whole(Content::File(FileInfo { cid, size, mime_type, bytes: None })))
}

/// Whether all of `cid` is stored. What is in a file is not read: whether a leaf is damaged, or a node
/// lies about its size, comes up when it is.
pub(super) async fn has_all(store: &Store, cid: Cid) -> Result<bool> {
    let Some(root) = block(store, &cid).await? else { return Ok(false) };
    if is_directory(&root)? {
        return Ok(entries(store, cid).await?.is_some());
    }
    Ok(one_block(&root)?.is_some() || is_whole(store, &root).await?)
}

/// The file that `root` is, if it has no other block.
pub(super) fn one_block(root: &Block) -> Result<Option<FileInfo>> {
    if root.links().is_ok_and(|links| !links.is_empty()) {
        return Ok(None);
    }
    let cid = *root.cid();
    let failed = |error| convert::read_error(cid, &error);
    let mut reader = Reader::new(cid, None).map_err(failed)?;
    reader.wants(1);
    reader.supply(root).map_err(failed)?;
    let bytes = match reader.next() {
        ReadStep::Bytes(bytes) => bytes,
        ReadStep::Done | ReadStep::Wait => Bytes::new(),
    };
    let mime_type = mime::sniff(&bytes).to_owned();
    Ok(Some(FileInfo { cid, size: bytes.len() as u64, mime_type, bytes: Some(bytes) }))
}

/// The bytes of `root` in order. An item that is an error ends the stream.
pub(crate) fn read(store: Store, root: Cid) -> ByteStream {
    let start = Reading::new(store, root, None);
    Box::pin(stream::try_unfold(Some(start), |reading| async move {
        let Some(reading) = reading else { return Ok(None) };
        let mut reading = reading?;
        let piece = reading.next().await?;
        Ok(piece.map(|bytes| (bytes, Some(Ok(reading)))))
    }))
}

struct Reading {
    store: Store,
    reader: Reader,
}

impl Reading {
    fn new(store: Store, root: Cid, range: Option<std::ops::Range<u64>>) -> Result<Self> {
        let reader = Reader::new(root, range).map_err(|error| convert::read_error(root, &error))?;
        Ok(Self { store, reader })
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.reader.next() {
                ReadStep::Bytes(bytes) => return Ok(Some(bytes)),
                ReadStep::Done => return Ok(None),
                ReadStep::Wait => {
                    let wants = self.reader.wants(WINDOW);
                    for (cid, block) in wants.iter().zip(blocks(&self.store, &wants).await?) {
                        let block = block.ok_or_else(|| convert::missing(cid))?;
                        self.reader
                            .supply(&block)
                            .map_err(|error| convert::read_error(*cid, &error))?;
                    }
                }
            }
        }
    }
}

/// The names and CIDs in one directory; `None` if a node of it is missing.
async fn entries(store: &Store, cid: Cid) -> Result<Option<BTreeMap<String, Cid>>> {
    let mut tree = Tree::open(cid, DirParams::from(Profile::default()));
    loop {
        match tree.entries(&TreePath::root()) {
            Ok(entries) => return Ok(Some(entries.into_iter().collect())),
            Err(TreeError::Need(cids)) => {
                for block in blocks(store, &cids).await? {
                    let Some(block) = block else { return Ok(None) };
                    tree.supply(&block).map_err(|error| convert::tree_error(cid, error))?;
                }
            }
            Err(error) => return Err(convert::tree_error(cid, error)),
        }
    }
}

/// Whether every block of the file is here. Only nodes that can have links are read.
async fn is_whole(store: &Store, root: &Block) -> Result<bool> {
    let bad = |error| convert::walk_error(*root.cid(), &error);
    let mut walk = Walk::new(*root.cid(), Leaves::Skip).map_err(bad)?;
    while !walk.is_done() {
        let wants = walk.wants(WALK_WINDOW);
        if wants == [*root.cid()] {
            walk.supply(root).map_err(bad)?;
            continue;
        }
        for block in blocks(store, &wants).await? {
            let Some(block) = block else { return Ok(false) };
            walk.supply(&block).map_err(bad)?;
        }
    }
    let leaves: Vec<Cid> =
        walk.into_found().into_iter().filter(|cid| cid.codec() != DAG_PB).collect();
    for some in leaves.chunks(LEAVES_WINDOW) {
        if store.has_many(some).await?.contains(&false) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether `root` is a directory; fails if it is neither that nor a file.
pub(super) fn is_directory(root: &Block) -> Result<bool> {
    if root.cid().codec() != DAG_PB {
        return Ok(false);
    }
    let bad = |reason: String| Error::BadContent { cid: *root.cid(), reason };
    let node = PbNode::decode(root.data()).map_err(|error| bad(error.to_string()))?;
    let data = node.data.ok_or_else(|| bad("a node without UnixFS data".into()))?;
    match UnixFs::decode(&data).map_err(|error| bad(error.to_string()))?.kind {
        Kind::Directory | Kind::HamtShard => Ok(true),
        Kind::File | Kind::Raw => Ok(false),
        Kind::Symlink => Err(bad("it is a symbolic link".into())),
    }
}

pub(super) async fn block(store: &Store, cid: &Cid) -> Result<Option<Block>> {
    Ok(blocks(store, std::slice::from_ref(cid)).await?.pop().flatten())
}

/// Reads blocks. A damaged one is taken out of the way, so that the next fetch brings it again.
async fn blocks(store: &Store, cids: &[Cid]) -> Result<Vec<Option<Block>>> {
    match store.get_many(cids).await {
        Err(StoreError::Corrupt { cid }) => {
            store.evict_corrupt(&cid).await?;
            Err(Error::CorruptBlock { cid })
        }
        outcome => Ok(outcome?),
    }
}
