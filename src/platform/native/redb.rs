//! [`Database`] on the disk of a native peer: one redb file per database.
//!
//! redb has one writer at a time and any number of readers, each on a snapshot. What the contract
//! adds, the order of the calls, is kept in [`queue`]; [`rows`] says how a batch becomes rows.

mod queue;
mod rows;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use self::queue::Queue;
use crate::platform::{
    BoxFuture,
    database::{Batch, Database, DatabaseError, DatabaseResult, Databases, Op, Table, Usage},
};

/// What redb keeps of a file in memory unless told otherwise.
const CACHE_BYTES: usize = 64 << 20;
/// Longest name of a database that its file is called by; longer ones would meet NAME_MAX.
const MAX_FILE_STEM: usize = 200;

/// Databases in one directory, a file `NAME.redb` each, readable by their owner only. A file can be
/// open in one process at a time; within it any number of handles share it.
#[derive(Debug, Clone)]
pub struct RedbDatabases {
    inner: Arc<Inner>,
}

/// How the databases of a directory are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedbOptions {
    /// Memory for pages of each database.
    pub cache_bytes: usize,
    /// Most bytes of keys and values in each database.
    pub quota: Option<u64>,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { cache_bytes: CACHE_BYTES, quota: None }
    }
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    options: RedbOptions,
    /// Those that were opened here, by name; some of them may have been closed since.
    open: Mutex<BTreeMap<String, Weak<Queue>>>,
}

/// A handle to an open database.
#[derive(Debug)]
pub struct RedbDatabase {
    /// `None` after `close`.
    queue: Mutex<Option<Arc<Queue>>>,
}

impl RedbDatabases {
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self::with_options(directory, RedbOptions::default())
    }

    pub fn with_options(directory: impl Into<PathBuf>, options: RedbOptions) -> Self {
        let inner = Inner { directory: directory.into(), options, open: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The file of the database `name`, whether it exists or not.
    pub fn path(&self, name: &str) -> PathBuf {
        self.inner.directory.join(file_name(name))
    }
}

impl Databases for RedbDatabases {
    fn open(&self, name: String) -> BoxFuture<DatabaseResult<Arc<dyn Database>>> {
        let this = self.clone();
        Box::pin(async move {
            let runtime = tokio::runtime::Handle::current();
            let open = tokio::task::spawn_blocking(move || this.open_blocking(name, runtime));
            let queue = open.await.map_err(|e| DatabaseError::Failed(e.to_string()))??;
            let database: Arc<dyn Database> =
                Arc::new(RedbDatabase { queue: Mutex::new(Some(queue)) });
            Ok(database)
        })
    }
}

impl RedbDatabases {
    fn open_blocking(
        &self,
        name: String,
        runtime: tokio::runtime::Handle,
    ) -> DatabaseResult<Arc<Queue>> {
        let path = self.path(&name);
        // Held while opening, so that two calls at once end up with one queue.
        let mut open = lock(&self.inner.open);
        if let Some(queue) = open.get(&name).and_then(Weak::upgrade)
            && queue.is_usable()
        {
            return Ok(queue);
        }
        make_directory(&self.inner.directory)?;
        let queue = Arc::new(Queue::open(path, self.inner.options, runtime)?);
        open.retain(|_, queue| queue.strong_count() > 0);
        open.insert(name, Arc::downgrade(&queue));
        Ok(queue)
    }
}

impl RedbDatabase {
    /// Starts one transaction and gives what resolves with its result.
    fn start<T: Send + 'static>(
        &self,
        start: impl FnOnce(&Queue, oneshot::Sender<DatabaseResult<T>>),
    ) -> BoxFuture<DatabaseResult<T>> {
        let (reply, answer) = oneshot::channel();
        match &*lock(&self.queue) {
            Some(queue) => start(queue, reply),
            None => drop(reply.send(Err(DatabaseError::Closed("close() was called".into())))),
        }
        Box::pin(async move {
            let ended = || Err(DatabaseError::Closed("its thread has ended".into()));
            answer.await.unwrap_or_else(|_| ended())
        })
    }
}

impl Database for RedbDatabase {
    fn get_many(
        &self,
        table: Table,
        keys: Vec<Bytes>,
    ) -> BoxFuture<DatabaseResult<Vec<Option<Bytes>>>> {
        self.start(|queue, reply| {
            let touches = keys.clone();
            queue.read(table, Some(&touches), reply, move |snapshot| {
                rows::get_many(snapshot, table, &keys)
            });
        })
    }

    fn has_many(&self, table: Table, keys: Vec<Bytes>) -> BoxFuture<DatabaseResult<Vec<bool>>> {
        self.start(|queue, reply| {
            let touches = keys.clone();
            queue.read(table, Some(&touches), reply, move |snapshot| {
                rows::has_many(snapshot, table, &keys)
            });
        })
    }

    fn keys(
        &self,
        table: Table,
        after: Option<Bytes>,
        limit: u32,
    ) -> BoxFuture<DatabaseResult<Vec<Bytes>>> {
        self.start(|queue, reply| {
            queue.read(table, None, reply, move |snapshot| {
                rows::keys(snapshot, table, after.as_deref(), limit as usize)
            });
        })
    }

    fn write(&self, batch: Batch) -> BoxFuture<DatabaseResult<Vec<bool>>> {
        self.start(|queue, reply| queue.write(batch, reply))
    }

    fn usage(&self) -> BoxFuture<DatabaseResult<Usage>> {
        self.start(|queue, reply| {
            let quota = queue.quota();
            // Of any table: what every write changes.
            queue.read(Table::Meta, None, reply, move |snapshot| {
                Ok(Usage { used: rows::used(snapshot)?, quota, persistent: true })
            });
        })
    }

    fn close(&self) -> BoxFuture<()> {
        let queue = lock(&self.queue).take();
        Box::pin(async move {
            let Some(queue) = queue else { return };
            queue.drained().await;
            // The last handle closes the file, and another process may open it when this resolves.
            if let Some(queue) = Arc::into_inner(queue) {
                let _ = tokio::task::spawn_blocking(move || queue.end()).await;
            }
        })
    }
}

/// The name of a database as the name of a file: what is not plain is written `%XX`.
fn file_name(name: &str) -> String {
    let mut stem = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => stem.push(byte.into()),
            _ => drop(write!(stem, "%{byte:02X}")),
        }
    }
    if stem.len() > MAX_FILE_STEM {
        let digest = crate::content::block::sha256(name.as_bytes());
        stem.truncate(MAX_FILE_STEM / 2);
        for byte in digest {
            let _ = write!(stem, "{byte:02x}");
        }
    }
    stem + ".redb"
}

fn make_directory(directory: &Path) -> DatabaseResult<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| io_error(&error, directory))
}

fn open_file(path: &Path) -> DatabaseResult<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(|error| io_error(&error, path))
}

fn io_error(error: &io::Error, path: &Path) -> DatabaseError {
    match error.kind() {
        // The disk, the user's share of it, or what one file may have.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            DatabaseError::QuotaExceeded
        }
        _ => DatabaseError::Failed(format!("{}: {error}", path.display())),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of a batch that is about to be written.
fn batch_bytes(batch: &[Op]) -> usize {
    let value = |op: &Op| match op {
        Op::Put { value, .. } | Op::PutNew { value, .. } => value.len(),
        Op::Delete { .. } | Op::Expect { .. } => 0,
    };
    batch.iter().map(|op| op.key().len() + value(op)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_databases_are_names_of_files() {
        assert_eq!(file_name("tabpeer-store"), "tabpeer-store.redb");
        assert_eq!(file_name("../ü"), "%2E%2E%2F%C3%BC.redb");
        let (long, other) = (file_name(&"x".repeat(300)), file_name(&"x".repeat(301)));
        assert!(long.len() < 255 && long != other, "{long}");
    }
}
