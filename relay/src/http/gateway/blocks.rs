//! Where the gateway's blocks come from: the store and, if the operator wants it, connected peers.

use cid::Cid;
use tabpeer::content::block::Block;
use tabpeer::store::{Store, StoreError};

/// The blocks of one request.
pub struct Blocks {
    store: Store,
}

impl Blocks {
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    pub async fn get(&mut self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        Ok(self.get_many(std::slice::from_ref(cid)).await?.pop().flatten())
    }

    /// Each of `cids`, in their order.
    pub async fn get_many(&mut self, cids: &[Cid]) -> Result<Vec<Option<Block>>, StoreError> {
        match self.store.get_many(cids).await {
            // As good as not there, and counted as such from now on.
            Err(StoreError::Corrupt { cid }) => {
                tracing::error!(%cid, "a block on the disk is damaged; add it again");
                self.store.evict_corrupt(&cid).await?;
                self.store.get_many(cids).await
            }
            found => found,
        }
    }
}
