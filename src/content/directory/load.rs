//! From blocks to directories in memory: what is asked for, what was supplied, and the checks that a
//! foreign node has to pass before anything is made of it.

use super::node::{Child, Dir, Flat, Form, Hamt, Link, Seal, base_weight, threshold, weight};
use super::shard::Shard;
use super::{DirParams, EntryKind, MAX_ENTRIES, MAX_NEED, NodeError, TreeError};
use crate::boxmap::{BoxMap, BoxSet};
use crate::content::block::{Block, Cid};
use crate::content::dagpb::PbNode;
use crate::content::hamt::{Place, ShardNode, Stat};
use crate::content::unixfs::{Kind, UnixFs};

/// Blocks by multihash bytes: a store may know the same block under another CID.
pub(super) type Shelf = BoxMap<Vec<u8>, Block>;

/// What one call on a tree may use, and what it misses.
pub(super) struct Loader<'a> {
    pub params: DirParams,
    shelf: &'a Shelf,
    /// Lower bounds of the sizes of sharded directories, learned earlier.
    learned: &'a BoxMap<Cid, u64>,
    missing: Vec<Cid>,
    asked: BoxSet<Cid>,
    visited: usize,
}

impl<'a> Loader<'a> {
    pub fn new(params: DirParams, shelf: &'a Shelf, learned: &'a BoxMap<Cid, u64>) -> Self {
        let (missing, asked) = (Vec::new(), BoxSet::new());
        Self { params, shelf, learned, missing, asked, visited: 0 }
    }

    /// A block that was supplied, or that its CID carries.
    pub fn block(&self, cid: &Cid) -> Result<Block, TreeError> {
        let supplied = self.shelf.get(&cid.hash().to_bytes()).cloned();
        supplied.or_else(|| Block::inline(cid)).ok_or_else(|| TreeError::Need(vec![*cid]))
    }

    /// In a walk over many nodes: turns what one of them misses into a wish of the whole walk.
    pub fn wish<T>(&mut self, result: Result<T, TreeError>) -> Result<Option<T>, TreeError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(TreeError::Need(cids)) => {
                for cid in cids {
                    if self.missing.len() < MAX_NEED && self.asked.insert(cid) {
                        self.missing.push(cid);
                    }
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a walk may stop, having wished for as much as one answer asks for.
    pub fn is_full(&self) -> bool {
        self.missing.len() >= MAX_NEED
    }

    /// How many wishes there are, for [`Loader::forget_wishes`].
    pub fn wishes(&self) -> usize {
        self.missing.len()
    }

    /// Takes back the wishes after the first `kept`, which turned out not to be needed.
    pub fn forget_wishes(&mut self, kept: usize) {
        for cid in self.missing.drain(kept..) {
            self.asked.remove(&cid);
        }
    }

    /// What a walk wished for.
    pub fn need(&mut self) -> TreeError {
        TreeError::Need(std::mem::take(&mut self.missing))
    }

    /// Counts what a walk goes over: a few blocks can claim to be endlessly many directories.
    pub fn visit(&mut self, entries: usize) -> Result<(), TreeError> {
        self.visited = self.visited.saturating_add(entries);
        if self.visited > MAX_ENTRIES { Err(TreeError::TooMany) } else { Ok(()) }
    }

    /// Reads a shard that lies at `place` in its directory.
    pub fn shard(&self, block: &Block, place: Place) -> Result<Shard, TreeError> {
        let bad = |why: NodeError| TreeError::BadNode { cid: *block.cid(), why: Box::new(why) };
        let node = PbNode::decode(block.data()).map_err(|e| bad(e.into()))?;
        let data = UnixFs::decode(&node.data.clone().unwrap_or_default());
        let data = data.map_err(|e| bad(e.into()))?;
        if data.kind != Kind::HamtShard || node.links.is_empty() {
            return Err(bad(NodeError::NotAShard));
        }
        let node = ShardNode::decode(node, &data, Some(place)).map_err(|e| bad(e.into()))?;
        let shard = Shard::from_node(node, self.params.shard);
        check_names(&shard).map_err(bad)?;
        Ok(shard)
    }

    /// What a block is, and the directory if it is one. A block that is no UnixFS is an entry of kind
    /// [`EntryKind::Other`]; a directory that cannot be read is an error.
    pub fn classify(&self, block: &Block) -> Result<(EntryKind, Option<Dir>), TreeError> {
        let bad = |why: NodeError| TreeError::BadNode { cid: *block.cid(), why: Box::new(why) };
        let other = Ok((EntryKind::Other, None));
        let Ok(node) = PbNode::decode(block.data()) else { return other };
        let Some(Ok(data)) = node.data.as_ref().map(UnixFs::decode) else { return other };
        let stat = Stat { mode: data.mode, mtime: data.mtime };
        let form = match data.kind {
            Kind::Raw | Kind::File => return Ok((EntryKind::File, None)),
            Kind::Symlink => return Ok((EntryKind::Symlink, None)),
            Kind::Directory => Form::Flat(self.flat(node).map_err(bad)?),
            Kind::HamtShard => {
                let node = ShardNode::decode(node, &data, None).map_err(|e| bad(e.into()))?;
                Form::Hamt(self.hamt(block.cid(), node).map_err(bad)?)
            }
        };
        let seal = Seal::saved(*block.cid());
        Ok((EntryKind::Directory, Some(Dir { stat, form, seal, whole: None })))
    }

    fn flat(&self, node: PbNode) -> Result<Flat, NodeError> {
        let mut flat = Flat::default();
        for link in node.links {
            check_name(&link.name)?;
            let target = Link { cid: link.cid, tsize: link.tsize };
            flat.weight += weight(self.params.shard, &link.name, &target);
            let name = link.name.clone();
            if flat.entries.insert(link.name, Child::new(target)).is_some() {
                return Err(NodeError::Duplicate(name));
            }
        }
        Ok(flat)
    }

    fn hamt(&self, cid: &Cid, node: ShardNode) -> Result<Hamt, NodeError> {
        let rule = self.params.shard;
        let floor = threshold(rule).saturating_add(1);
        let learned = self.learned.get(cid);
        let fanout = node.fanout;
        let (at_least, goal) = match learned {
            Some(size) => (*size, threshold(rule).saturating_mul(2)),
            None => (floor, threshold(rule)),
        };
        let root = Shard::from_node(node, rule);
        check_names(&root)?;
        Ok(Hamt { fanout, root, at_least, goal, seeking: false })
    }
}

impl Hamt {
    /// A lower bound worth remembering: better than what any sharded directory is assumed to have.
    pub fn learned(&self, params: DirParams, stat: Stat) -> Option<u64> {
        let known = self.root.tally.weight + base_weight(params.shard, stat);
        let best = known.max(self.at_least);
        (best > threshold(params.shard).saturating_add(1)).then_some(best)
    }
}

fn check_names(shard: &Shard) -> Result<(), NodeError> {
    shard.names().try_for_each(check_name)
}

/// A name that cannot be a part of a path would let a foreign directory write where it likes.
fn check_name(name: &str) -> Result<(), NodeError> {
    let bad = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']);
    if bad { Err(NodeError::BadName(name.to_owned())) } else { Ok(()) }
}
