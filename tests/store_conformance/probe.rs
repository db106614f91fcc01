//! A database between the store and a real one.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use bytes::Bytes;
use tabpeer::platform::{
    BoxFuture, MaybeSend,
    database::{Batch, Database, DatabaseError, DatabaseResult, Op, Table, Usage},
};

/// A database that counts what it is asked, fails and dawdles when told to.
#[derive(Clone)]
pub struct Probe {
    inner: Arc<dyn Database>,
    /// Keys asked for and operations written.
    cost: Arc<AtomicU64>,
    failure: Arc<Mutex<Option<DatabaseError>>>,
    /// Turns that the executor takes before an answer comes.
    read_delay: Arc<AtomicU64>,
    write_delay: Arc<AtomicU64>,
}

#[allow(dead_code, reason = "each test file uses a part")]
impl Probe {
    pub fn new(inner: Arc<dyn Database>) -> Self {
        let (cost, failure) = (Arc::default(), Arc::default());
        Self { inner, cost, failure, read_delay: Arc::default(), write_delay: Arc::default() }
    }

    /// What was asked since the last call.
    pub fn take_cost(&self) -> u64 {
        self.cost.swap(0, Ordering::Relaxed)
    }

    /// Every write that puts a block fails with `failure` until further notice.
    pub fn fail(&self, failure: Option<DatabaseError>) {
        *self.failure.lock().expect("lock") = failure;
    }

    /// Writes made from now on take effect as ever, but tell so only after `turns`.
    pub fn delay_writes(&self, turns: u64) {
        self.write_delay.store(turns, Ordering::Relaxed);
    }

    /// The same of reads.
    pub fn delay_reads(&self, turns: u64) {
        self.read_delay.store(turns, Ordering::Relaxed);
    }

    fn count(&self, keys: usize) {
        self.cost.fetch_add(keys as u64, Ordering::Relaxed);
    }
}

impl Database for Probe {
    fn get_many(
        &self,
        table: Table,
        keys: Vec<Bytes>,
    ) -> BoxFuture<DatabaseResult<Vec<Option<Bytes>>>> {
        self.count(keys.len());
        after(&self.read_delay, self.inner.get_many(table, keys))
    }

    fn has_many(&self, table: Table, keys: Vec<Bytes>) -> BoxFuture<DatabaseResult<Vec<bool>>> {
        self.count(keys.len());
        after(&self.read_delay, self.inner.has_many(table, keys))
    }

    fn keys(
        &self,
        table: Table,
        after: Option<Bytes>,
        limit: u32,
    ) -> BoxFuture<DatabaseResult<Vec<Bytes>>> {
        self::after(&self.read_delay, self.inner.keys(table, after, limit))
    }

    fn write(&self, batch: Batch) -> BoxFuture<DatabaseResult<Vec<bool>>> {
        self.count(batch.len());
        let puts =
            batch.iter().any(|op| op.table() == Table::Blocks && !matches!(op, Op::Delete { .. }));
        match &*self.failure.lock().expect("lock") {
            Some(failure) if puts => {
                let failure = failure.clone();
                Box::pin(async move { Err(failure) })
            }
            _ => after(&self.write_delay, self.inner.write(batch)),
        }
    }

    fn usage(&self) -> BoxFuture<DatabaseResult<Usage>> {
        self.inner.usage()
    }

    fn close(&self) -> BoxFuture<()> {
        self.inner.close()
    }
}

/// The answer, as many turns later.
fn after<T: MaybeSend + 'static>(
    delay: &AtomicU64,
    answer: BoxFuture<DatabaseResult<T>>,
) -> BoxFuture<DatabaseResult<T>> {
    let mut turns = delay.load(Ordering::Relaxed);
    Box::pin(async move {
        let answer = answer.await;
        poll_fn(|cx| {
            if turns == 0 {
                return Poll::Ready(());
            }
            turns -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        answer
    })
}
