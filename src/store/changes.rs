//! Tells which blocks have come, for those who answer or announce as soon as something is here.

use std::sync::{Arc, Mutex, Weak};

use cid::Cid;
use futures::{StreamExt, channel::mpsc};

use super::{Store, lock};

/// CIDs kept for a reader that is slow; beyond, it only hears that it missed some.
pub const MAX_UNREAD_CHANGES: usize = 4096;
/// Wake-ups that wait for a reader; one says as much as many.
const WAKE_QUEUE: usize = 1;

/// What has happened since the last time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These blocks can be read now. They may be uncommitted, and may be gone again.
    Stored(Vec<Cid>),
    /// Too many to tell.
    Lagged,
}

/// The blocks that are put into a store from now on, in batches.
#[derive(Debug)]
pub struct Changes {
    unread: Arc<Mutex<Unread>>,
    wake: mpsc::Receiver<()>,
}

impl Changes {
    /// The next batch; `None` when the store was closed.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            let unread = std::mem::take(&mut *lock(&self.unread));
            if unread.lagged {
                return Some(Change::Lagged);
            }
            if !unread.cids.is_empty() {
                return Some(Change::Stored(unread.cids));
            }
            self.wake.next().await?;
        }
    }
}

#[derive(Debug, Default)]
struct Unread {
    cids: Vec<Cid>,
    lagged: bool,
}

/// Who is told.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<Vec<Watcher>>);

#[derive(Debug)]
struct Watcher {
    unread: Weak<Mutex<Unread>>,
    wake: mpsc::Sender<()>,
}

impl Watchers {
    pub(super) fn stored(&self, cid: &Cid) {
        lock(&self.0).retain_mut(|watcher| {
            let Some(unread) = watcher.unread.upgrade() else { return false };
            let mut unread = lock(&unread);
            if unread.cids.len() < MAX_UNREAD_CHANGES {
                unread.cids.push(*cid);
            } else {
                *unread = Unread { cids: Vec::new(), lagged: true };
            }
            // A full queue wakes the reader just as well.
            let _ = watcher.wake.try_send(());
            true
        });
    }

    pub(super) fn close(&self) {
        lock(&self.0).clear();
    }
}

impl Store {
    /// The blocks that are put from now on.
    pub fn changes(&self) -> Changes {
        let unread = Arc::<Mutex<Unread>>::default();
        let (wake, woken) = mpsc::channel(WAKE_QUEUE);
        let watcher = Watcher { unread: Arc::downgrade(&unread), wake };
        lock(&self.inner.watchers.0).push(watcher);
        Changes { unread, wake: woken }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cid::Version;

    use super::*;
    use crate::{
        content::block::{Block, RAW},
        platform::{database::Databases as _, memory::MemoryDatabases},
    };

    async fn store() -> Store {
        let database = MemoryDatabases::default().open("test".into()).await.expect("opens");
        Store::open(database).await.expect("opens")
    }

    fn block(n: u32) -> Block {
        Block::encode(Version::V1, RAW, Bytes::copy_from_slice(&n.to_be_bytes()))
    }

    #[tokio::test]
    async fn what_is_put_is_told_in_batches_once_it_can_be_read() {
        let store = store().await;
        let mut session = store.session();
        session.put(block(0)).await.expect("puts");
        let mut changes = store.changes();
        for n in [1, 2, 1] {
            session.put(block(n)).await.expect("puts");
        }
        let expected = [1, 2].map(|n| *block(n).cid());
        assert_eq!(changes.next().await, Some(Change::Stored(expected.to_vec())));
        assert!(store.has(&expected[1]).await.expect("reads"));
        session.put(block(3)).await.expect("puts");
        assert_eq!(changes.next().await, Some(Change::Stored(vec![*block(3).cid()])));
        drop(session);
        store.close().await;
        assert_eq!(changes.next().await, None);
    }

    #[tokio::test]
    async fn who_does_not_read_hears_that_it_missed_something() {
        let store = store().await;
        let (mut changes, dropped) = (store.changes(), store.changes());
        drop(dropped);
        let mut session = store.session();
        for n in 0..MAX_UNREAD_CHANGES as u32 + 2 {
            session.put(block(n)).await.expect("puts");
        }
        assert_eq!(changes.next().await, Some(Change::Lagged));
        assert_eq!(lock(&store.inner.watchers.0).len(), 1);
        session.put(block(1_000_000)).await.expect("puts");
        assert_eq!(changes.next().await, Some(Change::Stored(vec![*block(1_000_000).cid()])));
    }
}
