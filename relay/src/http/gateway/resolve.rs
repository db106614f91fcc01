//! From a CID and names to the block at the end of them, with every block on the way: a client that verifies needs them.

use cid::Cid;
use tabpeer::content::block::{Block, DAG_PB};
use tabpeer::content::dagpb::PbNode;
use tabpeer::content::hamt::{Place, ShardLink, ShardNode, murmur3_x64_64};
use tabpeer::content::unixfs::{Kind, UnixFs};
use tabpeer::store::StoreError;

use super::blocks::Blocks;

/// Where a path leads.
#[derive(Debug)]
pub struct Resolved {
    /// Every block on the way, without the last.
    pub way: Vec<Cid>,
    /// What each part of the path stands for, the root first.
    pub roots: Vec<Cid>,
    pub end: Block,
}

/// Why a path leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The first block of all.
    #[error("block {0} is not here")]
    NoRoot(Cid),
    #[error("block {0}, which the path leads through, is not here")]
    Absent(Cid),
    #[error("there is nothing called {name:?} in {directory}")]
    NoSuchName { name: String, directory: Cid },
    #[error("{0} is not a directory")]
    NotADirectory(Cid),
    #[error("block {cid} cannot be read: {reason}")]
    BadNode { cid: Cid, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub async fn resolve(
    blocks: &mut Blocks,
    root: Cid,
    path: &[String],
) -> Result<Resolved, ResolveError> {
    let first = blocks.get(&root).await?.ok_or(ResolveError::NoRoot(root))?;
    let mut resolved = Resolved { way: Vec::new(), roots: vec![root], end: first };
    for name in path {
        let next = resolved.step(blocks, name).await?;
        resolved.roots.push(next);
        resolved.way.push(*resolved.end.cid());
        resolved.end = blocks.get(&next).await?.ok_or(ResolveError::Absent(next))?;
    }
    Ok(resolved)
}

impl Resolved {
    /// The CID of `name` in the directory at the end. Shards on the way become the end in turn.
    async fn step(&mut self, blocks: &mut Blocks, name: &str) -> Result<Cid, ResolveError> {
        let directory = *self.end.cid();
        let missing = || ResolveError::NoSuchName { name: name.to_owned(), directory };
        let (node, data) = unixfs(&self.end)?.ok_or(ResolveError::NotADirectory(directory))?;
        let mut shard = match data.kind {
            Kind::Directory => {
                let found = node.links.into_iter().find(|link| link.name == name);
                return found.map(|link| link.cid).ok_or_else(missing);
            }
            Kind::HamtShard => decode_shard(&self.end, node, &data, None)?,
            Kind::File | Kind::Raw | Kind::Symlink => {
                return Err(ResolveError::NotADirectory(directory));
            }
        };
        let hash = murmur3_x64_64(name.as_bytes());
        let mut place = Place::root(shard.fanout);
        loop {
            let slot = place.slot(hash).ok_or_else(missing)?;
            let found = shard.slots.into_iter().find(|(at, _)| *at == slot);
            let below = match found.ok_or_else(missing)?.1 {
                ShardLink::Entry(link) if link.name == name => return Ok(link.cid),
                ShardLink::Entry(_) => return Err(missing()),
                ShardLink::Shard { cid, .. } => cid,
            };
            place = place.below(slot).ok_or_else(missing)?;
            self.way.push(*self.end.cid());
            self.end = blocks.get(&below).await?.ok_or(ResolveError::Absent(below))?;
            let bad = || bad_node(&self.end, "it should be a shard");
            let (node, data) = unixfs(&self.end)?.ok_or_else(bad)?;
            shard = decode_shard(&self.end, node, &data, Some(place))?;
        }
    }
}

/// A dag-pb node with UnixFS in it; `None` for anything that is not dag-pb.
pub fn unixfs(block: &Block) -> Result<Option<(PbNode, UnixFs)>, ResolveError> {
    if block.cid().codec() != DAG_PB {
        return Ok(None);
    }
    let node = PbNode::decode(block.data()).map_err(|error| bad_node(block, &error.to_string()))?;
    let data = node.data.clone().ok_or_else(|| bad_node(block, "it has no UnixFS data"))?;
    let data = UnixFs::decode(&data).map_err(|error| bad_node(block, &error.to_string()))?;
    Ok(Some((node, data)))
}

fn decode_shard(
    block: &Block,
    node: PbNode,
    data: &UnixFs,
    place: Option<Place>,
) -> Result<ShardNode, ResolveError> {
    ShardNode::decode(node, data, place).map_err(|error| bad_node(block, &error.to_string()))
}

pub fn bad_node(block: &Block, reason: &str) -> ResolveError {
    ResolveError::BadNode { cid: *block.cid(), reason: reason.to_owned() }
}
