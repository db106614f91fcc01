//! Where the gateway's blocks come from: the store and, if the operator wants it, connected peers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cid::Cid;
use tabpeer::content::block::Block;
use tabpeer::exchange::bitswap::{Bitswap, Session, SessionEvent};
use tabpeer::store::{Store, StoreError};

/// Bytes of fetched blocks that are kept for the next who asks.
const CACHE_BYTES: usize = 64 << 20;

/// What all requests share.
#[derive(Clone)]
pub struct Source {
    store: Store,
    peers: Option<Arc<Peers>>,
}

struct Peers {
    bitswap: Bitswap,
    /// For one block.
    patience: Duration,
    cache: Mutex<Cache>,
}

/// The blocks of one request.
pub struct Blocks {
    source: Source,
    /// Since the first block that was not in the store.
    session: Option<Session>,
}

/// Fetched blocks by hash, the oldest first to go.
#[derive(Default)]
struct Cache {
    blocks: HashMap<Box<[u8]>, Block>,
    order: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Source {
    /// With `peers`: who else is asked, and for how long.
    pub fn new(store: Store, peers: Option<(Bitswap, Duration)>) -> Self {
        let peers = peers.map(|(bitswap, patience)| {
            Arc::new(Peers { bitswap, patience, cache: Mutex::default() })
        });
        Self { store, peers }
    }

    /// `here`: no peer is asked.
    pub fn blocks(&self, here: bool) -> Blocks {
        let peers = self.peers.clone().filter(|_| !here);
        Blocks { source: Self { store: self.store.clone(), peers }, session: None }
    }
}

impl Blocks {
    pub async fn get(&mut self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        Ok(self.get_many(std::slice::from_ref(cid)).await?.pop().flatten())
    }

    /// Each of `cids`, in their order.
    pub async fn get_many(&mut self, cids: &[Cid]) -> Result<Vec<Option<Block>>, StoreError> {
        let mut found = match self.source.store.get_many(cids).await {
            // As good as not there, and counted as such from now on.
            Err(StoreError::Corrupt { cid }) => {
                tracing::error!(%cid, "a block on the disk is damaged; add it again");
                self.source.store.evict_corrupt(&cid).await?;
                self.source.store.get_many(cids).await?
            }
            found => found?,
        };
        let Some(peers) = self.source.peers.clone() else { return Ok(found) };
        for (cid, block) in cids.iter().zip(&mut found) {
            if block.is_none() {
                *block = lock(&peers.cache).get(cid);
            }
        }
        let missing = cids.iter().zip(&found).filter(|(_, block)| block.is_none());
        let missing: Vec<Cid> = missing.map(|(cid, _)| *cid).collect();
        if !missing.is_empty() {
            let mut fetched = self.fetch(&peers, missing).await;
            for (cid, block) in cids.iter().zip(&mut found).filter(|(_, block)| block.is_none()) {
                *block = fetched.remove(cid);
            }
        }
        Ok(found)
    }

    /// Those of `missing` that come in time; they are given up as soon as every connected peer has said no.
    async fn fetch(&mut self, peers: &Peers, missing: Vec<Cid>) -> HashMap<Cid, Block> {
        let mut fetched = HashMap::new();
        if self.session.is_none() {
            self.session = peers.bitswap.session().ok();
        }
        let Some(session) = &mut self.session else { return fetched };
        session.want(missing.clone()).await;
        let mut open = missing;
        let collect = async {
            while !open.is_empty() {
                match session.next().await {
                    Some(SessionEvent::Block { block, .. }) => {
                        open.retain(|cid| cid.hash() != block.cid().hash());
                        lock(&peers.cache).insert(&block);
                        fetched.insert(*block.cid(), block);
                    }
                    Some(SessionEvent::Exhausted { cids }) => {
                        open.retain(|cid| !cids.contains(cid));
                    }
                    None => return,
                }
            }
        };
        let _ = tokio::time::timeout(peers.patience, collect).await;
        // What comes now comes too late for this response.
        session.cancel(open).await;
        fetched
    }
}

impl Cache {
    fn get(&self, cid: &Cid) -> Option<Block> {
        self.blocks.get(cid.hash().digest()).filter(|block| block.cid() == cid).cloned()
    }

    fn insert(&mut self, block: &Block) {
        let key: Box<[u8]> = block.cid().hash().digest().into();
        if self.blocks.contains_key(&key) {
            return;
        }
        self.bytes += block.data().len();
        self.order.push_back(key.clone());
        self.blocks.insert(key, block.clone());
        while self.bytes > CACHE_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            let len = self.blocks.remove(&oldest).map_or(0, |block| block.data().len());
            self.bytes = self.bytes.saturating_sub(len);
        }
    }
}

fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use cid::Version;
    use tabpeer::content::block::RAW;

    use super::*;

    #[test]
    fn the_oldest_blocks_make_room() {
        let mut cache = Cache::default();
        let block = |n: usize| Block::encode(Version::V1, RAW, vec![n as u8; 1 << 20].into());
        for n in 0..70 {
            cache.insert(&block(n));
        }
        assert_eq!((cache.bytes, cache.blocks.len(), cache.order.len()), (CACHE_BYTES, 64, 64));
        assert!(cache.get(block(5).cid()).is_none() && cache.get(block(6).cid()).is_some());
    }
}
