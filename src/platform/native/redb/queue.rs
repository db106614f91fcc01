//! The order of transactions: writes go through one thread, in the order of the calls, those that
//! wait together in one commit of redb. A read takes its snapshot at once, unless a write that
//! waits touches one of its keys: then it takes its turn behind it.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use ::redb::{ReadTransaction, ReadableDatabase as _};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{RedbOptions, batch_bytes, io_error, lock, open_file, rows};
use crate::platform::database::{Batch, DatabaseError, DatabaseResult, Op, Table};

/// Transactions that wait or read at a time. One more makes its caller wait, thread and all; the
/// store never has so many.
const MAX_TRANSACTIONS: usize = 4096;
/// Batches that share one commit, and one wait for the disk.
const GROUP_BATCHES: usize = 256;
/// As many bytes of them as are worth waiting for; reached with the last batch, not before it.
const GROUP_BYTES: usize = 16 << 20;

/// An open file and the thread that writes it.
#[derive(Debug)]
pub(super) struct Queue {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    options: RedbOptions,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// How many writes that are not done touch a key.
    touched: HashMap<(Table, Bytes), usize>,
    /// How many writes that are not done.
    writes: usize,
    /// Readers on a snapshot.
    readers: usize,
    /// `None` after the file failed, until the thread has opened it again, and at the end.
    database: Option<Arc<::redb::Database>>,
    /// Nothing comes after what waits.
    ending: bool,
    /// The file is closed.
    ended: bool,
}

type WriteReply = oneshot::Sender<DatabaseResult<Vec<bool>>>;
type Reader = Box<dyn FnOnce(DatabaseResult<ReadTransaction>) + Send>;

enum Job {
    Write(Batch, WriteReply),
    Read(Reader),
    Drained(oneshot::Sender<()>),
}

impl Queue {
    /// Opens the file, making it if there is none. Blocks.
    pub fn open(
        path: PathBuf,
        options: RedbOptions,
        runtime: tokio::runtime::Handle,
    ) -> DatabaseResult<Self> {
        let shared =
            Arc::new(Shared { path, options, state: Mutex::default(), changed: Condvar::new() });
        let database = shared.open()?;
        lock(&shared.state).database = Some(database);
        let writer = Writer { shared: shared.clone(), runtime: runtime.clone() };
        std::thread::Builder::new()
            .name("redb".into())
            .spawn(move || writer.run())
            .map_err(|error| io_error(&error, &shared.path))?;
        Ok(Self { shared, runtime })
    }

    pub fn quota(&self) -> Option<u64> {
        self.shared.options.quota
    }

    /// Whether its thread is alive.
    pub fn is_usable(&self) -> bool {
        let state = lock(&self.shared.state);
        !state.ending && !state.ended
    }

    pub fn write(&self, batch: Batch, reply: WriteReply) {
        let mut state = self.room();
        for op in batch.iter().filter(changes) {
            *state.touched.entry((op.table(), op.key().clone())).or_default() += 1;
        }
        state.writes += 1;
        self.push(state, Job::Write(batch, reply));
    }

    /// Reads `keys` of `table` (`None`: any) as the writes called before have left them, and no other.
    pub fn read<T: Send + 'static>(
        &self,
        table: Table,
        keys: Option<&[Bytes]>,
        reply: oneshot::Sender<DatabaseResult<T>>,
        read: impl FnOnce(&ReadTransaction) -> Result<T, ::redb::Error> + Send + 'static,
    ) {
        let shared = self.shared.clone();
        let reader: Reader = Box::new(move |snapshot| {
            let result = snapshot.and_then(|snapshot| {
                read(&snapshot).map_err(|error| redb_error(&error, &shared.path))
            });
            let _ = reply.send(result);
        });
        let mut state = self.room();
        let behind = match keys {
            Some(keys) => keys.iter().any(|key| state.touched.contains_key(&(table, key.clone()))),
            None => state.writes > 0,
        };
        match state.database.clone().filter(|_| !behind) {
            Some(database) => {
                state.readers += 1;
                // Here, so that no later write is seen.
                let snapshot = snapshot(&self.shared, &database);
                // In this order: who finds no reader relies on it that nothing else has the file.
                drop(database);
                drop(state);
                spawn_reader(&self.shared, &self.runtime, snapshot, reader);
            }
            None => self.push(state, Job::Read(reader)),
        }
    }

    /// Resolves when everything that was called before is done.
    pub async fn drained(&self) {
        let (reply, drained) = oneshot::channel();
        self.push(lock(&self.shared.state), Job::Drained(reply));
        let _ = drained.await;
    }

    /// Closes the file. Blocks until it is.
    pub fn end(self) {
        let shared = self.shared.clone();
        drop(self);
        let state = lock(&shared.state);
        drop(shared.wait_while(state, |state| !state.ended));
    }

    /// The state, when there is room for one more transaction.
    fn room(&self) -> MutexGuard<'_, State> {
        self.shared.wait_while(lock(&self.shared.state), |state| {
            !state.ended && state.jobs.len() + state.readers >= MAX_TRANSACTIONS
        })
    }

    /// A job that comes after the end is dropped, and its reply with it.
    fn push(&self, mut state: MutexGuard<'_, State>, job: Job) {
        if !state.ended {
            state.jobs.push_back(job);
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        lock(&self.shared.state).ending = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn wait_while<'s>(
        &'s self,
        state: MutexGuard<'s, State>,
        condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'s, State> {
        self.changed.wait_while(state, condition).unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> DatabaseResult<Arc<::redb::Database>> {
        let file = open_file(&self.path)?;
        let failed = |error: ::redb::Error| redb_error(&error, &self.path);
        let mut builder = ::redb::Builder::new();
        builder.set_cache_size(self.options.cache_bytes);
        let database = builder.create_file(file).map_err(|error| failed(error.into()))?;
        let transaction = database.begin_write().map_err(|error| failed(error.into()))?;
        rows::make_tables(&transaction).map_err(|error| failed(error.into()))?;
        transaction.commit().map_err(|error| failed(error.into()))?;
        Ok(Arc::new(database))
    }
}

/// The thread.
struct Writer {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
}

impl Writer {
    fn run(self) {
        let mut state = lock(&self.shared.state);
        loop {
            state = self.shared.wait_while(state, |state| state.jobs.is_empty() && !state.ending);
            let Some(job) = state.jobs.pop_front() else { return };
            match job {
                Job::Write(batch, reply) => {
                    let group = take_group(&mut state, batch, reply);
                    drop(state);
                    self.write(group);
                    state = lock(&self.shared.state);
                }
                Job::Read(reader) => {
                    state.readers += 1;
                    drop(state);
                    let snapshot = self.database().and_then(|db| snapshot(&self.shared, &db));
                    spawn_reader(&self.shared, &self.runtime, snapshot, reader);
                    state = lock(&self.shared.state);
                }
                Job::Drained(reply) => drop(reply.send(())),
            }
            self.shared.changed.notify_all();
        }
    }

    fn write(&self, group: Vec<(Batch, WriteReply)>) {
        let (batches, replies): (Vec<Batch>, Vec<WriteReply>) = group.into_iter().unzip();
        let written = self.database().and_then(|database| {
            commit(&database, self.shared.options.quota, &batches)
                .map_err(|error| redb_error(&error, &self.shared.path))
        });
        if written.is_err() {
            // redb takes a file that failed for lost until it is opened anew.
            let state = lock(&self.shared.state);
            let mut state = self.shared.wait_while(state, |state| state.readers > 0);
            state.database = None;
        }
        let mut state = lock(&self.shared.state);
        state.writes = state.writes.saturating_sub(batches.len());
        for op in batches.iter().flatten().filter(changes) {
            let key = (op.table(), op.key().clone());
            if let Some(count) = state.touched.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    state.touched.remove(&key);
                }
            }
        }
        drop(state);
        match written {
            Ok(results) => replies.into_iter().zip(results).for_each(|(reply, result)| {
                let _ = reply.send(result);
            }),
            Err(error) => replies.into_iter().for_each(|reply| {
                let _ = reply.send(Err(error.clone()));
            }),
        }
    }

    /// The open file; opened again if it failed.
    fn database(&self) -> DatabaseResult<Arc<::redb::Database>> {
        if let Some(database) = &lock(&self.shared.state).database {
            return Ok(database.clone());
        }
        let database = self.shared.open()?;
        lock(&self.shared.state).database = Some(database.clone());
        Ok(database)
    }
}

/// Also if the thread panics: nobody waits for it for ever.
impl Drop for Writer {
    fn drop(&mut self) {
        let state = lock(&self.shared.state);
        let mut state = self.shared.wait_while(state, |state| state.readers > 0);
        // Closing the file may take its time, but nobody may find it open after `ended`.
        state.database = None;
        state.jobs.clear();
        state.ended = true;
        self.shared.changed.notify_all();
    }
}

/// The writes that follow `batch` directly, as many as share a commit.
fn take_group(state: &mut State, batch: Batch, reply: WriteReply) -> Vec<(Batch, WriteReply)> {
    let mut bytes = batch_bytes(&batch);
    let mut group = vec![(batch, reply)];
    while group.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
        match state.jobs.pop_front() {
            Some(Job::Write(batch, reply)) => {
                bytes += batch_bytes(&batch);
                group.push((batch, reply));
            }
            Some(other) => {
                state.jobs.push_front(other);
                break;
            }
            None => break,
        }
    }
    group
}

/// All batches in one commit, each with its own result.
fn commit(
    database: &::redb::Database,
    quota: Option<u64>,
    batches: &[Batch],
) -> Result<Vec<DatabaseResult<Vec<bool>>>, ::redb::Error> {
    let mut transaction = database.begin_write()?;
    // Without it, opening the file after a crash would read all of it.
    transaction.set_quick_repair(true);
    let mut writer = rows::Writer::new(&transaction, quota)?;
    let results = batches.iter().map(|batch| writer.apply(batch)).collect::<Result<_, _>>()?;
    match writer.finish()? {
        true => transaction.commit()?,
        false => transaction.abort()?,
    }
    Ok(results)
}

fn snapshot(shared: &Shared, database: &::redb::Database) -> DatabaseResult<ReadTransaction> {
    database.begin_read().map_err(|error| redb_error(&error.into(), &shared.path))
}

/// Runs `reader`, which is counted already, where it may block.
fn spawn_reader(
    shared: &Arc<Shared>,
    runtime: &tokio::runtime::Handle,
    snapshot: DatabaseResult<ReadTransaction>,
    reader: Reader,
) {
    // Counts even if the runtime ends before it runs.
    let reading = Reading(shared.clone());
    drop(runtime.spawn_blocking(move || {
        let reading = reading;
        reader(snapshot);
        drop(reading);
    }));
}

/// One reader.
struct Reading(Arc<Shared>);

impl Drop for Reading {
    fn drop(&mut self) {
        lock(&self.0.state).readers -= 1;
        self.0.changed.notify_all();
    }
}

fn changes(op: &&Op) -> bool {
    !matches!(op, Op::Expect { .. })
}

fn redb_error(error: &::redb::Error, path: &std::path::Path) -> DatabaseError {
    match error {
        ::redb::Error::Io(error) => io_error(error, path),
        ::redb::Error::DatabaseAlreadyOpen => {
            DatabaseError::Failed(format!("{} is open in another process", path.display()))
        }
        error => DatabaseError::Failed(format!("{}: {error}", path.display())),
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { readers, writes, ending, ended, .. } = self;
        let (mut f, jobs) = (f.debug_struct("State"), self.jobs.len());
        f.field("jobs", &jobs).field("readers", readers).field("writes", writes);
        f.field("ending", ending).field("ended", ended).finish_non_exhaustive()
    }
}
