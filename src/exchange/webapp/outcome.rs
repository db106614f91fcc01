//! What can come of rebuilding a file, and how far each end can be trusted.

use std::collections::BTreeMap;

use cid::Cid;

use crate::content::block::{Block, BlockError};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every block has been handed out and the root is the one asked for.
    Complete { root: Cid, size: u64, mime_type: Option<String> },
    /// A directory: its own block has been handed out. `verified`: the entries are the block's;
    /// otherwise (a sharded directory) they are what the peer says and no more.
    Directory { root: Cid, entries: BTreeMap<String, Cid>, verified: bool },
    /// The blocks below the root could not be made from the content. The bytes may be right, but
    /// nothing vouches for them: fetch the leaves from elsewhere rather than trust them.
    ContentOnly { root: Option<Block>, why: Unverifiable },
    /// The peer says that it has no such thing.
    NotFound { reason: String },
    /// The peer's answer contradicts itself or the CID.
    Lying(Lie),
}

/// Why content cannot be tied to its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverifiable {
    #[error("the root is not a UnixFS node")]
    NotUnixFs,
    #[error("the root's tree was not made by a balanced import with chunks of one size")]
    UnknownLayout,
    #[error("the tree built from the content is not the root's")]
    Differs,
}

/// What gave the peer away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    #[error("the raw node does not hash to the CID")]
    RawNode,
    #[error("the answer is for another CID")]
    OtherCid,
    #[error("a file is sent as a directory or a directory as a file")]
    Kind,
    #[error("the content has another length than the root says")]
    Length,
    #[error("leaf {index} of the content is not the root's")]
    Leaf { index: usize },
    #[error("the directory's entries are not the root's")]
    Entries,
}

/// Why rebuilding cannot go on; not the peer's word against its CID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    #[error("content of {cid} came before its root, and more than the {limit} bytes that are held")]
    HeldTooMuch { cid: Cid, limit: usize },
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error("a digest was given for {cid}, and no leaf was being hashed")]
    NoLeaf { cid: Cid },
}
