//! The first source: what is stored here. Looked up in batches, ahead of time where what will be
//! wanted is known, so that a block that is not here costs no trip to the database of its own.

use std::collections::HashSet;

use cid::Cid;
use multihash::Multihash;

use crate::{
    content::block::Block,
    platform::BoxFuture,
    store::{Store, StoreError},
};

/// Blocks known not to be here, remembered at a time.
const MAX_ABSENT: usize = 1 << 16;
/// Blocks read in one look-up; more wait for the next.
const MAX_READ: usize = 64;
/// Blocks whose presence is asked for in one look-up.
const MAX_FORESEEN: usize = 4096;

pub(super) type Hash = Multihash<64>;

/// What one look-up found.
pub(super) struct Found {
    /// Of what was wanted: what is here, and what is not.
    pub blocks: Vec<Block>,
    pub missing: Vec<Cid>,
    /// Of what was foreseen: what is not here.
    absent: Vec<Cid>,
}

/// Looks blocks up in the store, one batch at a time.
pub(super) struct Local {
    store: Store,
    wanted: Vec<Cid>,
    foreseen: Vec<Cid>,
    absent: HashSet<Hash>,
    /// What has come since the look-up that runs was begun: what it says of these is out of date.
    came: HashSet<Hash>,
}

impl Local {
    pub fn new(store: Store) -> Self {
        let (absent, came) = (HashSet::new(), HashSet::new());
        Self { store, wanted: Vec::new(), foreseen: Vec::new(), absent, came }
    }

    /// Whether the block has to be looked up; if so, it will be.
    pub fn want(&mut self, cid: Cid) -> bool {
        let look = !self.absent.contains(cid.hash());
        if look {
            self.wanted.push(cid);
        }
        look
    }

    pub fn cancel(&mut self, cids: &[Cid]) {
        self.wanted.retain(|cid| !cids.contains(cid));
    }

    /// These will be wanted soon.
    pub fn foresee(&mut self, cids: impl IntoIterator<Item = Cid>) {
        let room = MAX_FORESEEN.saturating_sub(self.foreseen.len());
        let unknown = cids.into_iter().filter(|cid| !self.absent.contains(cid.hash()));
        self.foreseen.extend(unknown.take(room));
    }

    /// It was looked for a moment ago, and is not here.
    pub fn set_absent(&mut self, cid: &Cid) {
        self.absent.insert(*cid.hash());
    }

    /// A block has come, so it may be stored from now on.
    pub fn arrived(&mut self, cid: &Cid) {
        self.absent.remove(cid.hash());
        // Above the bound something may be fetched once more.
        if self.came.len() < MAX_ABSENT {
            self.came.insert(*cid.hash());
        }
    }

    /// The next look-up, if there is something to look up.
    pub fn look_up(&mut self) -> Option<BoxFuture<Result<Found, StoreError>>> {
        if self.wanted.is_empty() && self.foreseen.is_empty() {
            return None;
        }
        let wanted: Vec<Cid> = self.wanted.drain(..self.wanted.len().min(MAX_READ)).collect();
        let foreseen = std::mem::take(&mut self.foreseen);
        self.came.clear();
        let store = self.store.clone();
        Some(Box::pin(async move {
            let (read, there) =
                futures::join!(read(&store, wanted.clone()), store.has_many(&foreseen));
            let (mut blocks, mut missing) = (Vec::new(), Vec::new());
            for (cid, block) in wanted.into_iter().zip(read?) {
                match block {
                    Some(block) => blocks.push(block),
                    None => missing.push(cid),
                }
            }
            let absent = foreseen.into_iter().zip(there?).filter(|(_, there)| !there);
            Ok(Found { blocks, missing, absent: absent.map(|(cid, _)| cid).collect() })
        }))
    }

    pub fn learn(&mut self, found: &Found) {
        if self.absent.len() + found.absent.len() > MAX_ABSENT {
            self.absent.clear();
        }
        let absent = found.absent.iter().map(|cid| *cid.hash());
        self.absent.extend(absent.filter(|hash| !self.came.contains(hash)));
    }
}

/// Reads blocks; one that is damaged is taken out of the way and counts as not here.
async fn read(store: &Store, cids: Vec<Cid>) -> Result<Vec<Option<Block>>, StoreError> {
    // Each turn evicts one block, so it ends.
    for _ in 0..=cids.len() {
        match store.get_many(&cids).await {
            Err(StoreError::Corrupt { cid }) => {
                tracing::warn!(%cid, "a stored block is damaged; it is fetched again");
                store.evict_corrupt(&cid).await?;
            }
            outcome => return outcome,
        }
    }
    Ok(vec![None; cids.len()])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{content::block::RAW, platform::memory::MemoryDatabase};

    #[tokio::test]
    async fn what_comes_while_it_is_looked_up_is_not_taken_to_be_absent() {
        let store = Store::open(Arc::new(MemoryDatabase::new())).await.expect("opens");
        let mut local = Local::new(store);
        let block = Block::encode(cid::Version::V1, RAW, vec![7; 10].into());
        local.foresee([*block.cid()]);
        let found = local.look_up().expect("something to look up").await.expect("looked up");
        local.arrived(block.cid());
        local.learn(&found);
        assert!(local.want(*block.cid()), "it may be here now, so it is looked up");
        // What has not come is known not to be here.
        local.foresee([*block.cid()]);
        let found = local.look_up().expect("something to look up").await.expect("looked up");
        local.learn(&found);
        assert!(!local.want(*block.cid()));
    }
}
