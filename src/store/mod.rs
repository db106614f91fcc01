//! Blocks, the roots that keep them alive, and the peer's identity, over any
//! [`Database`]. Platform-independent; the same conformance suite runs over memory and IndexedDB.
//!
//! # What is stored
//! A block's key is its codec and multihash, written as a version 1 CID, so both CID versions of a
//! block share a row. Reading falls back from raw to dag-pb and back, because peers ask by
//! multihash. Blocks with an identity CID are never stored; they are read from the CID.
//!
//! # What lives
//! A *root* is a name for a CID. A block is *committed* when a root reaches it. It is freed by the
//! commit that takes away its last reference, where its references are the distinct committed
//! blocks that link to it and the roots that name it. The references beyond the first are counted
//! in a table of their own, so a block that is used once, as most are, costs one row.
//!
//! # How blocks get in
//! A [`Session`] writes blocks in large batches as they come, uncommitted, and holds each: held
//! blocks are not deleted. [`Store::commit`] then does everything else in one batch: the blocks not
//! yet written, the changed reference counts, the roots by compare-and-swap, the deletion of what
//! is freed. So what a root names is on the disk before anybody can see the root. Only blocks that
//! the new roots reach become committed, and all that they link to must be there.
//! A session that ends otherwise deletes what it wrote, except what others hold or refer to.
//!
//! # After a crash
//! A mark is in the database whenever uncommitted rows are. Finding it, [`Store::open`] walks from
//! the roots, deletes what it does not reach and counts the references anew; [`Store::check`] makes
//! the same walk and compares.
//!
//! # Corrupt rows
//! Every block read is checked against its CID, once as long as the store is open. A corrupt one is
//! reported; after [`Store::evict_corrupt`] it reads as absent, while its row keeps its place in the
//! counts, and the next session that brings the block writes the right bytes over it.

mod audit;
mod changes;
mod checked;
mod commit;
mod error;
mod key;
mod read;
mod registry;
mod session;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures::{
    StreamExt,
    channel::{mpsc, oneshot},
    lock::Mutex as AsyncMutex,
};

use self::{
    changes::Watchers,
    checked::Checked,
    key::{FORMAT_KEY, IDENTITY_KEY, Key, MARK_KEY, bad_row},
    registry::Registry,
};
use crate::platform::{
    database::{Database, DatabaseError, Op, Table, Usage},
    task,
};

pub use audit::Audit;
pub use changes::{Change, Changes, MAX_UNREAD_CHANGES};
pub use commit::{MAX_REPORTED_MISSING, RootChange};
pub use error::StoreError;
pub use session::Session;

/// Version of the rows' format; [`Store::open`] refuses a newer one.
pub const FORMAT: u32 = 1;
/// Wake-ups that wait for the janitor; one says as much as many.
const JANITOR_QUEUE: usize = 1;

/// A handle; clones share everything.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    database: Arc<dyn Database>,
    registry: Mutex<Registry>,
    checked: Checked,
    /// Commits go one after another.
    committing: Arc<AsyncMutex<()>>,
    sweeping: AsyncMutex<()>,
    janitor: Mutex<mpsc::Sender<()>>,
    /// No session starts a write any more, or a busy one would keep `close` waiting for ever.
    closing: AtomicBool,
    watchers: Watchers,
}

impl Store {
    /// Opens the store in `database`, of which it must be the only user, and cleans up if the last
    /// user did not.
    #[allow(clippy::arc_with_non_send_sync, reason = "Send natively; a browser has one thread")]
    pub async fn open(database: Arc<dyn Database>) -> Result<Self, StoreError> {
        let meta = database.get_many(Table::Meta, vec![FORMAT_KEY, MARK_KEY]).await?;
        let [format, mark] = <[_; 2]>::try_from(meta).unwrap_or_default();
        check_format(format, &*database).await?;
        let (janitor, wakeups) = mpsc::channel(JANITOR_QUEUE);
        let store = Self {
            inner: Arc::new(Inner {
                database,
                registry: Mutex::default(),
                checked: Checked::default(),
                committing: Arc::default(),
                sweeping: AsyncMutex::default(),
                janitor: Mutex::new(janitor),
                closing: AtomicBool::new(false),
                watchers: Watchers::default(),
            }),
        };
        if mark.is_some() {
            store.recover().await?;
        }
        task::spawn(sweep_on_request(Arc::downgrade(&store.inner), wakeups));
        Ok(store)
    }

    /// Starts taking in blocks.
    pub fn session(&self) -> Session {
        Session::new(self.clone())
    }

    /// The identity kept here, as whoever set it wrote it.
    pub async fn identity(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.get_meta(IDENTITY_KEY).await?)
    }

    /// Keeps `identity` unless there is one already; returns the one that is kept now.
    pub async fn set_identity_if_absent(&self, identity: Bytes) -> Result<Bytes, StoreError> {
        let put = Op::PutNew { table: Table::Meta, key: IDENTITY_KEY, value: identity.clone() };
        self.database().write(vec![put]).await?;
        Ok(self.get_meta(IDENTITY_KEY).await?.unwrap_or(identity))
    }

    /// Blocks are going to be read and written: what takes time to start for that starts now, and the
    /// database may remember which there are.
    pub fn expect_blocks(&self) {
        self.database().expect_use(Table::Blocks);
    }

    pub async fn usage(&self) -> Result<Usage, StoreError> {
        Ok(self.database().usage().await?)
    }

    /// Waits for what is being written, deletes what is uncommitted and held by nobody, and closes.
    /// Later calls fail.
    pub async fn close(&self) {
        self.inner.closing.store(true, Ordering::Relaxed);
        self.inner.watchers.close();
        let _committing = self.inner.committing.lock().await;
        loop {
            let landing = {
                let mut registry = self.registry();
                if !registry.in_flight() {
                    break;
                }
                registry.next_landing()
            };
            let _ = landing.await;
        }
        self.sweep().await;
        self.database().close().await;
    }

    fn database(&self) -> &dyn Database {
        &*self.inner.database
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.inner.registry)
    }

    async fn get_meta(&self, key: Bytes) -> Result<Option<Bytes>, DatabaseError> {
        let values = self.database().get_many(Table::Meta, vec![key]).await?;
        Ok(values.into_iter().next().flatten())
    }

    /// Writes the unwritten ones of `keys` in one batch; `None` if there are none. The batch is
    /// under way when this returns and lands whether or not somebody waits.
    fn flush(&self, keys: Vec<Key>) -> Option<oneshot::Receiver<Result<(), StoreError>>> {
        if self.inner.closing.load(Ordering::Relaxed) {
            let (reply, refused) = oneshot::channel();
            let _ = reply.send(Err(DatabaseError::Closed("close() was called".into()).into()));
            return Some(refused);
        }
        let (write, flush) = {
            let mut registry = self.registry();
            let (batch, flush) = registry.start_flush(keys)?;
            (self.database().write(batch), flush)
        };
        let (reply, landing) = oneshot::channel();
        let store = self.clone();
        task::spawn(async move {
            let written = write.await;
            let (wrote, result) = match written {
                Ok(wrote) => (Some(wrote), Ok(())),
                Err(error) => (None, Err(error.into())),
            };
            let sweepable = {
                let mut registry = store.registry();
                registry.end_flush(flush, wrote);
                registry.sweepable()
            };
            if sweepable {
                store.sweep_later();
            }
            let _ = reply.send(result);
        });
        Some(landing)
    }

    /// Deletes uncommitted rows that nobody holds.
    async fn sweep(&self) {
        if self.registry().sweepable() {
            let store = self.clone();
            // A task of its own, because a sweep must not be dropped half way.
            let _ = task::spawn(async move { store.sweep_now().await }).await;
        }
    }

    fn sweep_later(&self) {
        // A full queue wakes the janitor just as well.
        let _ = lock(&self.inner.janitor).try_send(());
    }

    async fn sweep_now(&self) {
        let _sweeping = self.inner.sweeping.lock().await;
        loop {
            let (delete, sweep) = {
                let mut registry = self.registry();
                let Some((batch, sweep)) = registry.start_sweep() else { return };
                (self.database().write(batch), sweep)
            };
            let deleted = delete.await;
            self.registry().end_sweep(sweep, deleted.is_ok());
            if let Err(error) = deleted {
                tracing::warn!(%error, "unused blocks were not deleted; the next sweep tries again");
                return;
            }
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Sweeps for those who cannot wait for it (a dropped session), as long as the store lives.
async fn sweep_on_request(store: Weak<Inner>, mut requests: mpsc::Receiver<()>) {
    while requests.next().await.is_some() {
        let Some(inner) = store.upgrade() else { return };
        Store { inner }.sweep_now().await;
    }
}

/// There is one format so far, so there is nothing to migrate but the absence of any.
async fn check_format(row: Option<Bytes>, database: &dyn Database) -> Result<(), StoreError> {
    match row {
        Some(row) => {
            let found = <[u8; 4]>::try_from(&row[..]).map_err(|_| bad_row("meta", &FORMAT_KEY))?;
            let found = u32::from_be_bytes(found);
            if found > FORMAT {
                return Err(DatabaseError::TooNew { found, known: FORMAT }.into());
            }
        }
        None => {
            let value = Bytes::copy_from_slice(&FORMAT.to_be_bytes());
            database.write(vec![Op::Put { table: Table::Meta, key: FORMAT_KEY, value }]).await?;
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
