//! The blocks of a CAR, depth first, one after another as they are read: what is held is the way down to the current one
//! and a few leaves.

use std::collections::{HashSet, VecDeque};

use cid::Cid;
use tabpeer::content::block::{Block, DAG_PB, IDENTITY, RAW};
use tabpeer::content::dagpb::PbNode;
use tabpeer::content::unixfs::{Kind, UnixFs};

use super::blocks::Blocks;
use super::request::{Car, EntityBytes, Scope};
use super::resolve::{ResolveError, Resolved, bad_node, unixfs};

/// Most blocks that one response goes over: a tebibyte in chunks of 1 MiB.
const MAX_CAR_BLOCKS: usize = 1 << 20;
/// Most links that wait to be followed.
const MAX_PENDING_LINKS: usize = 1 << 18;
/// Leaves read together.
const READ_AHEAD: usize = 4;

/// Why a CAR ended early, after it had begun.
#[derive(Debug, thiserror::Error)]
pub enum CarError {
    #[error("block {0} is not here")]
    Missing(Cid),
    #[error(transparent)]
    Bad(#[from] ResolveError),
    #[error("the content has more blocks than one response may have")]
    TooMany,
}

/// The range that a request asks for lies outside of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct OutOfRange {
    pub size: u64,
}

/// One response.
pub struct CarWalk {
    blocks: Blocks,
    /// Multihashes sent; `None` if repeating is asked for.
    sent: Option<HashSet<Box<[u8]>>>,
    /// What is left to visit, the deepest last.
    levels: Vec<VecDeque<Visit>>,
    pending: usize,
    visited: usize,
    /// The bytes of the file that are wanted, as a half-open range.
    range: Option<(u64, u64)>,
}

struct Visit {
    cid: Cid,
    follow: Follow,
    /// Read ahead.
    block: Option<Block>,
}

/// Which links of a block are followed.
#[derive(Clone, Copy)]
enum Follow {
    None,
    All,
    /// Those of a file; it begins at this offset.
    File(u64),
    /// Those to shards of the same directory.
    Shards,
}

impl CarWalk {
    /// What `car` asks of what a path has led to.
    pub fn new(blocks: Blocks, resolved: &Resolved, car: Car) -> Result<Self, OutOfRange> {
        let (follow, range) = plan(&resolved.end, car)?;
        let on_the_way = |cid: &Cid| Visit { cid: *cid, follow: Follow::None, block: None };
        let mut level: VecDeque<Visit> = resolved.way.iter().map(on_the_way).collect();
        let end = Some(resolved.end.clone());
        level.push_back(Visit { cid: *resolved.end.cid(), follow, block: end });
        Ok(Self {
            blocks,
            sent: (!car.dups).then(HashSet::new),
            pending: level.len(),
            levels: vec![level],
            visited: 0,
            range,
        })
    }

    /// The next block; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Block>, CarError> {
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(visit) = level.pop_front() else {
                self.levels.pop();
                continue;
            };
            self.pending = self.pending.saturating_sub(1);
            self.visited += 1;
            if self.visited > MAX_CAR_BLOCKS {
                return Err(CarError::TooMany);
            }
            let known = self.sent.as_ref().is_some_and(|sent| sent.contains(&key(&visit.cid)));
            // Of a part of a file that occurs twice, other bytes may be wanted the second time.
            let again = matches!(visit.follow, Follow::File(_)) && self.range.is_some();
            if known && !again {
                continue;
            }
            let block = self.read(visit.cid, visit.block).await?;
            self.follow(&block, visit.follow)?;
            // What stands in the CID itself is sent with the block that it stands in.
            if !known && block.cid().hash().code() != IDENTITY {
                if let Some(sent) = &mut self.sent {
                    sent.insert(key(block.cid()));
                }
                return Ok(Some(block));
            }
        }
    }

    /// Reads a block and, if it is a leaf, those that follow it.
    async fn read(&mut self, cid: Cid, block: Option<Block>) -> Result<Block, CarError> {
        if let Some(block) = block {
            return Ok(block);
        }
        let mut wanted = vec![cid];
        if cid.codec() == RAW
            && let Some(level) = self.levels.last_mut()
        {
            let sent = self.sent.as_ref();
            let fresh = |visit: &&mut Visit| {
                visit.cid.codec() == RAW
                    && !sent.is_some_and(|sent| sent.contains(&key(&visit.cid)))
            };
            let mut next: Vec<&mut Visit> =
                level.iter_mut().take_while(fresh).take(READ_AHEAD - 1).collect();
            wanted.extend(next.iter().map(|visit| visit.cid));
            let mut found = self.blocks.get_many(&wanted).await.map_err(ResolveError::Store)?;
            for (visit, block) in next.iter_mut().zip(found.drain(1..)) {
                visit.block = block;
            }
            return found.pop().flatten().ok_or(CarError::Missing(cid));
        }
        let found = self.blocks.get(&cid).await.map_err(ResolveError::Store)?;
        found.ok_or(CarError::Missing(cid))
    }

    fn follow(&mut self, block: &Block, follow: Follow) -> Result<(), CarError> {
        let below: VecDeque<Visit> = match follow {
            Follow::None => return Ok(()),
            _ if block.cid().codec() != DAG_PB => return Ok(()),
            Follow::All => {
                let node = PbNode::decode(block.data())
                    .map_err(|error| bad_node(block, &error.to_string()))?;
                node.links.into_iter().map(|link| Visit::new(link.cid, Follow::All)).collect()
            }
            Follow::Shards => {
                let Some((node, data)) = unixfs(block)? else { return Ok(()) };
                // A link to a shard is named by its slot alone, in as many digits as the last has.
                let digits = data.fanout.map_or(2, |fanout| if fanout > 16 { 2 } else { 1 });
                let shards = node.links.into_iter().filter(|link| link.name.len() == digits);
                shards.map(|link| Visit::new(link.cid, Follow::Shards)).collect()
            }
            Follow::File(offset) => {
                let Some((node, data)) = unixfs(block)? else { return Ok(()) };
                self.parts(block, node, &data, offset)?
            }
        };
        self.pending += below.len();
        if self.pending > MAX_PENDING_LINKS {
            return Err(CarError::TooMany);
        }
        if !below.is_empty() {
            self.levels.push(below);
        }
        Ok(())
    }

    /// The children of a part of a file that hold wanted bytes.
    fn parts(
        &self,
        block: &Block,
        node: PbNode,
        data: &UnixFs,
        offset: u64,
    ) -> Result<VecDeque<Visit>, CarError> {
        if data.block_sizes.len() != node.links.len() {
            return Err(bad_node(block, "it has as many sizes as links").into());
        }
        let mut start = offset.saturating_add(data.data.as_ref().map_or(0, |own| own.len() as u64));
        let mut parts = VecDeque::new();
        for (link, size) in node.links.into_iter().zip(&data.block_sizes) {
            let end = start.saturating_add(*size);
            if self.range.is_none_or(|(from, to)| from < end && start < to) {
                parts.push_back(Visit::new(link.cid, Follow::File(start)));
            }
            start = end;
        }
        Ok(parts)
    }
}

impl Visit {
    fn new(cid: Cid, follow: Follow) -> Self {
        Self { cid, follow, block: None }
    }
}

/// What is to be followed from the end of a path.
fn plan(end: &Block, car: Car) -> Result<(Follow, Option<(u64, u64)>), OutOfRange> {
    let entity = |follow, size: Option<u64>| match (car.bytes, size) {
        (Some(bytes), Some(size)) => match bytes.of(size)? {
            Some(range) => Ok((follow, Some(range))),
            None => Ok((Follow::None, None)),
        },
        _ => Ok((follow, None)),
    };
    match car.scope {
        Scope::Block => Ok((Follow::None, None)),
        Scope::All => Ok((Follow::All, None)),
        Scope::Entity if end.cid().codec() == RAW => {
            entity(Follow::None, Some(end.data().len() as u64))
        }
        // What cannot be read is sent as it is: the client sees what is wrong with it.
        Scope::Entity => match unixfs(end) {
            Ok(Some((_, data))) => match data.kind {
                Kind::File | Kind::Raw => {
                    let own = data.data.as_ref().map_or(0, |own| own.len() as u64);
                    let size = data.block_sizes.iter().fold(own, |sum, n| sum.saturating_add(*n));
                    entity(Follow::File(0), Some(size))
                }
                Kind::HamtShard => entity(Follow::Shards, None),
                Kind::Directory | Kind::Symlink => entity(Follow::None, None),
            },
            _ => Ok((Follow::None, None)),
        },
    }
}

impl EntityBytes {
    /// The half-open range of a file of this size; `None` if it is empty.
    fn of(self, size: u64) -> Result<Option<(u64, u64)>, OutOfRange> {
        let size_ = i128::from(size);
        let at = |n: i64| if n < 0 { size_ + i128::from(n) } else { i128::from(n) };
        let (from, to) = (at(self.from), self.to.map_or(size_ - 1, at));
        if size > 0 && (from >= size_ || to < 0) {
            return Err(OutOfRange { size });
        }
        let (from, to) = (from.max(0), to.min(size_ - 1));
        let range = |n: i128| u64::try_from(n).unwrap_or_default();
        Ok((from <= to).then(|| (range(from), range(to + 1))))
    }
}

/// Blocks are the same if their hashes are.
fn key(cid: &Cid) -> Box<[u8]> {
    cid.hash().digest().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file() {
        let of = |from, to| EntityBytes { from, to }.of(10);
        assert_eq!(of(0, None), Ok(Some((0, 10))));
        assert_eq!(of(3, Some(3)), Ok(Some((3, 4))));
        assert_eq!(of(-4, None), Ok(Some((6, 10))));
        assert_eq!(of(-40, Some(-9)), Ok(Some((0, 2))));
        assert_eq!(of(5, Some(i64::MAX)), Ok(Some((5, 10))));
        assert_eq!(of(5, Some(4)), Ok(None));
        assert_eq!(of(10, None), Err(OutOfRange { size: 10 }));
        assert_eq!(of(0, Some(-11)), Err(OutOfRange { size: 10 }));
        assert_eq!(of(i64::MIN, Some(i64::MIN)), Err(OutOfRange { size: 10 }));
        assert_eq!(EntityBytes { from: 0, to: None }.of(0), Ok(None));
    }
}
