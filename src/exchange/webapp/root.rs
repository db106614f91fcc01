//! What a file's root block says about the content that belongs to it.

use std::collections::BTreeMap;

use cid::Cid;

use crate::content::block::{Block, DAG_PB, MAX_BLOCK, RAW, SHA2_256};
use crate::content::dagpb::PbNode;
use crate::content::unixfs::{Kind, UnixFs};

/// A verified root and what can be read off it.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) block: Block,
    pub(super) kind: RootKind,
    /// Bytes of the file, where the root knows.
    pub(super) size: Option<u64>,
    /// For a file of several blocks: its children, and the bytes of the file below each.
    pub(super) links: Vec<Cid>,
    pub(super) sizes: Vec<u64>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum RootKind {
    NotUnixFs,
    /// All in this one block.
    Single,
    /// Links to raw leaves of known sizes and nothing else.
    RawLeaves,
    /// Links to nodes.
    Tree,
    /// A file of some other shape.
    Odd,
    /// `entries` are `None` for a shard: they are spread over more blocks.
    Directory {
        entries: Option<BTreeMap<String, Cid>>,
    },
}

impl Root {
    pub(super) fn read(block: Block) -> Self {
        let (kind, size, links, sizes) = match block.cid().codec() {
            RAW => (RootKind::Single, Some(block.data().len() as u64), Vec::new(), Vec::new()),
            DAG_PB => {
                read_node(&block).unwrap_or((RootKind::NotUnixFs, None, Vec::new(), Vec::new()))
            }
            _ => (RootKind::NotUnixFs, None, Vec::new(), Vec::new()),
        };
        Self { block, kind, size, links, sizes }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.kind, RootKind::Directory { .. })
    }

    /// Whether the root is all there is to it.
    pub(super) fn needs_no_content(&self) -> bool {
        matches!(self.kind, RootKind::Single | RootKind::Directory { .. })
    }
}

type Reading = (RootKind, Option<u64>, Vec<Cid>, Vec<u64>);

fn read_node(block: &Block) -> Option<Reading> {
    let node = PbNode::decode(block.data()).ok()?;
    let file = UnixFs::decode(node.data.as_ref()?).ok()?;
    let entries = || node.links.iter().map(|link| (link.name.clone(), link.cid)).collect();
    match file.kind {
        Kind::Directory => {
            let kind = RootKind::Directory { entries: Some(entries()) };
            Some((kind, None, Vec::new(), Vec::new()))
        }
        Kind::HamtShard => {
            Some((RootKind::Directory { entries: None }, None, Vec::new(), Vec::new()))
        }
        Kind::Symlink => Some((RootKind::Single, None, Vec::new(), Vec::new())),
        Kind::File | Kind::Raw => {
            let own = file.data.as_ref().map_or(0, |data| data.len() as u64);
            let links: Vec<Cid> = node.links.iter().map(|link| link.cid).collect();
            let sizes = file.block_sizes;
            let size = sizes.iter().try_fold(own, |sum, size| sum.checked_add(*size))?;
            let kind = match () {
                () if links.is_empty() && sizes.is_empty() => RootKind::Single,
                () if own > 0 || links.len() != sizes.len() => RootKind::Odd,
                () if links.iter().any(|cid| cid.codec() != RAW) => RootKind::Tree,
                () if sizes.iter().any(|size| *size > MAX_BLOCK as u64) => RootKind::Odd,
                () if links.iter().any(|cid| cid.hash().code() != SHA2_256) => RootKind::Odd,
                () => RootKind::RawLeaves,
            };
            Some((kind, Some(size), links, sizes))
        }
    }
}
