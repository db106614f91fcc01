//! Blocks on their way into the store, written behind the back of whoever makes them.

use std::collections::{HashMap, VecDeque};

use cid::Cid;
use futures::channel::oneshot;

use super::{
    Store, StoreError,
    key::{Key, child_keys, key_of},
};
use crate::content::block::Block;

/// A session writes what it has collected when it is this much, in bytes of keys and blocks. A batch
/// costs a browser about as much as hashing 1 MiB.
const FLUSH_BYTES: usize = 8 << 20;
/// Batches of one session in flight: while some are written, the next is made.
const MAX_IN_FLIGHT: usize = 2;

/// Uncommitted blocks. They can be read at once by everybody, and are gone when the session is
/// dropped, unless [`Store::commit`] made them reachable or another session holds them too.
#[derive(Debug)]
pub struct Session {
    store: Store,
    /// Every block of this session with the keys that it refers to.
    blocks: HashMap<Key, Box<[Key]>>,
    /// What may still have to be written.
    buffer: Vec<Key>,
    buffered: usize,
    in_flight: VecDeque<oneshot::Receiver<Result<(), StoreError>>>,
    failure: Option<StoreError>,
}

impl Session {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            blocks: HashMap::new(),
            buffer: Vec::new(),
            buffered: 0,
            in_flight: VecDeque::new(),
            failure: None,
        }
    }

    /// Adds a block. Waits only when [`MAX_IN_FLIGHT`] batches are being written already. After a
    /// failure the session accepts nothing more and cannot be committed.
    pub async fn put(&mut self, block: Block) -> Result<(), StoreError> {
        self.check()?;
        let Some(key) = key_of(block.cid()) else { return Ok(()) };
        if self.blocks.contains_key(&key) {
            return Ok(());
        }
        let children = child_keys(&block)?;
        if self.store.registry().hold(&key, block.data()) {
            self.buffered += key.len() + block.data().len();
            self.buffer.push(key.clone());
            self.store.inner.watchers.stored(block.cid());
        }
        self.blocks.insert(key, children.into());
        if self.buffered >= FLUSH_BYTES {
            self.start_flush();
            while self.in_flight.len() > MAX_IN_FLIGHT {
                self.land_one().await?;
            }
        }
        Ok(())
    }

    /// Reads a block of the store and holds it, so that no removal takes it away before this
    /// session ends, and a commit of this session may refer to it.
    pub async fn get(&mut self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        let Some(key) = key_of(cid).filter(|key| !self.blocks.contains_key(key)) else {
            return self.store.get(cid).await;
        };
        // A guard, because the caller may drop this future while it reads.
        let hold = UnreadHold::new(&self.store, key);
        let Some(block) = self.store.get_row(cid, hold.key.clone()).await? else {
            return self.store.get(cid).await;
        };
        let children = child_keys(&block)?;
        self.blocks.insert(hold.keep(), children.into());
        Ok(Some(block))
    }

    pub fn contains(&self, cid: &Cid) -> bool {
        key_of(cid).is_some_and(|key| self.blocks.contains_key(&key))
    }

    /// Writes what has been put so far, still uncommitted, and waits until it is written.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        self.start_flush();
        self.land_all().await
    }

    /// Ends the session and waits until its uncommitted blocks are gone. (Dropping it does the same
    /// in the background.)
    pub async fn discard(mut self) {
        let _ = self.land_all().await;
        let store = self.store.clone();
        drop(self);
        store.sweep().await;
    }

    pub(super) fn blocks(&self) -> &HashMap<Key, Box<[Key]>> {
        &self.blocks
    }

    /// Waits for the batches in flight.
    pub(super) async fn land_all(&mut self) -> Result<(), StoreError> {
        while !self.in_flight.is_empty() {
            self.land_one().await?;
        }
        self.check()
    }

    fn start_flush(&mut self) {
        self.buffered = 0;
        let keys = std::mem::take(&mut self.buffer);
        if let Some(landing) = self.store.flush(keys) {
            self.in_flight.push_back(landing);
        }
    }

    async fn land_one(&mut self) -> Result<(), StoreError> {
        if let Some(landing) = self.in_flight.front_mut() {
            let landed = landing.await;
            self.in_flight.pop_front();
            if let Ok(Err(error)) = landed {
                self.failure.get_or_insert(error);
            }
        }
        self.check()
    }

    fn check(&self) -> Result<(), StoreError> {
        self.failure.clone().map_or(Ok(()), Err)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let sweepable = self.store.registry().release(self.blocks.keys());
        if sweepable {
            self.store.sweep_later();
        }
    }
}

/// A hold on a block that is being read, given back if the read does not end well.
struct UnreadHold {
    store: Store,
    key: Key,
    kept: bool,
}

impl UnreadHold {
    fn new(store: &Store, key: Key) -> Self {
        store.registry().hold_unread(&key);
        Self { store: store.clone(), key, kept: false }
    }

    /// The block is there: the hold goes over to the session.
    fn keep(mut self) -> Key {
        self.store.registry().found(&self.key);
        self.kept = true;
        self.key.clone()
    }
}

impl Drop for UnreadHold {
    fn drop(&mut self) {
        if !self.kept && self.store.registry().release([&self.key]) {
            self.store.sweep_later();
        }
    }
}
