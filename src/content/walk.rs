//! Enumerating every block of a DAG, whatever it is: a file, a directory tree, a single block.
//! Answers "is all of it here?" and "which blocks does it keep alive?".

use crate::boxmap::BoxSet;
use cid::Cid;

use super::block::{Block, DAG_PB};
use super::dagpb::PbError;

/// Most blocks that one walk visits: a tebibyte in chunks of 1 MiB.
pub const MAX_WALK_BLOCKS: usize = 1 << 20;

/// One enumeration. Blocks are named top down, in the order of the links, each once.
#[derive(Debug)]
pub struct Walk {
    leaves: Leaves,
    found: BoxSet<Cid>,
    /// To ask for, the next one last.
    next: Vec<Cid>,
    asked: BoxSet<Cid>,
    limit: usize,
}

/// Whether blocks that cannot have links are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// Yes: when the walk is done, every block was there.
    Fetch,
    /// No: their CIDs are known from the links to them.
    Skip,
}

/// Why a DAG cannot be enumerated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    #[error("block {cid} is {source}")]
    DagPb { cid: Cid, source: PbError },
    #[error("there are more than {limit} blocks below the root")]
    TooManyBlocks { limit: usize },
}

impl Walk {
    pub fn new(root: Cid, leaves: Leaves) -> Result<Self, WalkError> {
        Self::with_limit(root, leaves, MAX_WALK_BLOCKS)
    }

    /// A walk that gives up after `limit` blocks (never more than [`MAX_WALK_BLOCKS`]).
    pub fn with_limit(root: Cid, leaves: Leaves, limit: usize) -> Result<Self, WalkError> {
        let limit = limit.min(MAX_WALK_BLOCKS);
        let (found, next, asked) = (BoxSet::new(), Vec::new(), BoxSet::new());
        let mut walk = Self { leaves, found, next, asked, limit };
        walk.visit(vec![root])?;
        Ok(walk)
    }

    /// Up to `max` blocks to supply that were not named before.
    pub fn wants(&mut self, max: usize) -> Vec<Cid> {
        let wants: Vec<Cid> = std::iter::from_fn(|| self.next.pop()).take(max).collect();
        self.asked.extend(wants.iter().copied());
        wants
    }

    /// Takes a block; one that was not asked for is ignored.
    pub fn supply(&mut self, block: &Block) -> Result<(), WalkError> {
        if !self.asked.remove(block.cid()) {
            return Ok(());
        }
        let links = block.links().map_err(|source| WalkError::DagPb { cid: *block.cid(), source });
        self.visit(links?)
    }

    /// Whether all blocks that had to be supplied were.
    pub fn is_done(&self) -> bool {
        self.next.is_empty() && self.asked.is_empty()
    }

    /// Blocks asked for and not supplied yet.
    pub fn missing(&self) -> impl Iterator<Item = &Cid> {
        self.asked.iter()
    }

    /// The CIDs found so far, all of them once the walk is done. Inline ones are not among them:
    /// they are no blocks to store.
    pub fn found(&self) -> &BoxSet<Cid> {
        &self.found
    }

    pub fn into_found(self) -> BoxSet<Cid> {
        self.found
    }

    fn visit(&mut self, links: Vec<Cid>) -> Result<(), WalkError> {
        let first = self.next.len();
        let mut links = std::collections::VecDeque::from(links);
        while let Some(cid) = links.pop_front() {
            if let Some(block) = Block::inline(&cid) {
                // What an inline block links to is shorter than itself, so this ends.
                links.extend(block.links().map_err(|source| WalkError::DagPb { cid, source })?);
            } else if self.found.insert(cid) {
                if self.found.len() > self.limit {
                    return Err(WalkError::TooManyBlocks { limit: self.limit });
                }
                if cid.codec() == DAG_PB || self.leaves == Leaves::Fetch {
                    self.next.push(cid);
                }
            }
        }
        self.next[first..].reverse();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::import::import_bytes;
    use crate::content::layout::Layout;
    use cid::Version;
    use std::collections::BTreeMap;

    fn blocks(raw_leaves: bool) -> (BTreeMap<Cid, Block>, Cid) {
        let layout = Layout::new(4, 3, Version::V1, raw_leaves).expect("valid");
        let bytes: Vec<u8> = (0..100).chain(0..100).collect();
        let (blocks, root) = import_bytes(layout, &bytes);
        (blocks.into_iter().map(|block| (*block.cid(), block)).collect(), root.cid)
    }

    #[test]
    fn every_block_is_named_once() {
        for (raw, leaves) in [(true, Leaves::Fetch), (true, Leaves::Skip), (false, Leaves::Skip)] {
            let (blocks, root) = blocks(raw);
            let mut walk = Walk::new(root, leaves).expect("a walk");
            let mut named = Vec::new();
            while !walk.is_done() {
                let wants = walk.wants(2);
                assert!(wants.len() <= 2 && !wants.is_empty());
                assert!(walk.missing().eq(wants.iter().collect::<BoxSet<_>>()));
                for cid in wants {
                    walk.supply(&blocks[&cid]).expect("a node");
                    named.push(cid);
                }
            }
            let distinct: BoxSet<Cid> = named.iter().copied().collect();
            assert_eq!(distinct.len(), named.len());
            assert!(walk.found().iter().eq(blocks.keys()));
            assert_eq!(named.len() < blocks.len(), raw && leaves == Leaves::Skip);
        }
    }

    #[test]
    fn a_walk_ends_at_its_limit() {
        let (blocks, root) = blocks(false);
        let mut walk = Walk::with_limit(root, Leaves::Fetch, 2).expect("a walk");
        let cid = walk.wants(1).pop().expect("the root");
        let end = walk.supply(&blocks[&cid]);
        assert_eq!(end, Err(WalkError::TooManyBlocks { limit: 2 }));
    }

    #[test]
    fn a_raw_root_may_need_no_block_at_all() {
        let root = *Block::encode(Version::V1, super::super::block::RAW, bytes::Bytes::new()).cid();
        let walk = Walk::new(root, Leaves::Skip).expect("a walk");
        assert!(walk.is_done() && walk.found().contains(&root));
        let inline: Cid = "bafkqaaa".parse().expect("a CID");
        let walk = Walk::new(inline, Leaves::Fetch).expect("a walk");
        assert!(walk.is_done() && walk.found().is_empty());
    }
}
