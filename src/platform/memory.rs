//! A [`Database`] in memory: what a native peer keeps its blocks in until it has a disk, and what
//! the store is tested against. Clones share the data, so a clone can play the reopened database.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{
    BoxFuture,
    database::{Batch, Database, DatabaseError, DatabaseResult, Databases, Op, Table, Usage},
};

/// Rows of all tables; the table comes first, so each table is one range.
type Rows = BTreeMap<(Table, Bytes), Bytes>;

#[derive(Debug, Clone, Default)]
pub struct MemoryDatabase {
    data: Arc<Mutex<Data>>,
    /// Per handle: closing one leaves its clones open.
    closed: Arc<Mutex<bool>>,
}

#[derive(Debug, Default)]
struct Data {
    rows: Rows,
    used: u64,
    quota: Option<u64>,
}

impl MemoryDatabase {
    pub fn new() -> Self {
        Self::default()
    }

    /// A batch that would take keys and values above `quota` bytes fails with
    /// [`DatabaseError::QuotaExceeded`].
    pub fn with_quota(quota: u64) -> Self {
        let database = Self::default();
        database.set_quota(Some(quota));
        database
    }

    pub fn set_quota(&self, quota: Option<u64>) {
        lock(&self.data).quota = quota;
    }

    /// Another handle on the same data, open even if this one is closed.
    pub fn reopen(&self) -> Self {
        Self { data: self.data.clone(), closed: Arc::default() }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Data) -> DatabaseResult<T>) -> DatabaseResult<T> {
        if *lock(&self.closed) {
            return Err(DatabaseError::Closed("close() was called".into()));
        }
        f(&mut lock(&self.data))
    }
}

/// Databases in memory, by name; what was closed can be opened again as long as this lives.
#[derive(Debug, Default)]
pub struct MemoryDatabases {
    databases: Mutex<BTreeMap<String, MemoryDatabase>>,
}

impl MemoryDatabases {
    /// The database `name`, as a test sees it from outside.
    pub fn get(&self, name: &str) -> MemoryDatabase {
        lock(&self.databases).entry(name.to_owned()).or_default().reopen()
    }
}

impl Databases for MemoryDatabases {
    fn open(&self, name: String) -> BoxFuture<DatabaseResult<Arc<dyn Database>>> {
        let database: Arc<dyn Database> = Arc::new(self.get(&name));
        Box::pin(std::future::ready(Ok(database)))
    }
}

impl Database for MemoryDatabase {
    fn get_many(
        &self,
        table: Table,
        keys: Vec<Bytes>,
    ) -> BoxFuture<DatabaseResult<Vec<Option<Bytes>>>> {
        answer(self.with(|data| {
            Ok(keys.into_iter().map(|key| data.rows.get(&(table, key)).cloned()).collect())
        }))
    }

    fn has_many(&self, table: Table, keys: Vec<Bytes>) -> BoxFuture<DatabaseResult<Vec<bool>>> {
        answer(self.with(|data| {
            Ok(keys.into_iter().map(|key| data.rows.contains_key(&(table, key))).collect())
        }))
    }

    fn keys(
        &self,
        table: Table,
        after: Option<Bytes>,
        limit: u32,
    ) -> BoxFuture<DatabaseResult<Vec<Bytes>>> {
        let start = match after {
            Some(key) => Bound::Excluded((table, key)),
            None => Bound::Included((table, Bytes::new())),
        };
        answer(self.with(|data| {
            let rows = data.rows.range((start, Bound::Unbounded));
            let keys = rows.map(|((of, key), _)| (of, key)).take_while(|(of, _)| **of == table);
            Ok(keys.take(limit as usize).map(|(_, key)| key.clone()).collect())
        }))
    }

    fn write(&self, batch: Batch) -> BoxFuture<DatabaseResult<Vec<bool>>> {
        answer(self.with(|data| data.write(batch)))
    }

    fn usage(&self) -> BoxFuture<DatabaseResult<Usage>> {
        answer(
            self.with(|data| Ok(Usage { used: data.used, quota: data.quota, persistent: false })),
        )
    }

    fn close(&self) -> BoxFuture<()> {
        *lock(&self.closed) = true;
        answer(())
    }
}

impl Data {
    fn write(&mut self, batch: Batch) -> DatabaseResult<Vec<bool>> {
        let mut wrote = Vec::new();
        let mut undo = Vec::new();
        for op in batch {
            match op {
                Op::Put { table, key, value } => undo.push(self.set((table, key), Some(value))),
                Op::PutNew { table, key, value } => {
                    let absent = !self.rows.contains_key(&(table, key.clone()));
                    if absent {
                        undo.push(self.set((table, key), Some(value)));
                    }
                    wrote.push(absent);
                }
                Op::Delete { table, key } => undo.push(self.set((table, key), None)),
                Op::Expect { table, key, value } => {
                    if self.rows.get(&(table, key)) != value.as_ref() {
                        self.revert(undo);
                        return Err(DatabaseError::Conflict);
                    }
                }
            }
        }
        if self.quota.is_some_and(|quota| self.used > quota) {
            self.revert(undo);
            return Err(DatabaseError::QuotaExceeded);
        }
        Ok(wrote)
    }

    /// Sets a row and returns what undoes it.
    fn set(
        &mut self,
        key: (Table, Bytes),
        value: Option<Bytes>,
    ) -> ((Table, Bytes), Option<Bytes>) {
        let size = |value: &Bytes| (key.1.len() + value.len()) as u64;
        self.used += value.as_ref().map_or(0, size);
        let old = match value {
            Some(value) => self.rows.insert(key.clone(), value),
            None => self.rows.remove(&key),
        };
        self.used -= old.as_ref().map_or(0, size);
        (key, old)
    }

    fn revert(&mut self, undo: Vec<((Table, Bytes), Option<Bytes>)>) {
        for (key, old) in undo.into_iter().rev() {
            self.set(key, old);
        }
    }
}

/// The effect is there already; the answer comes one turn of the executor later, as it does from a
/// real database, so that callers meet the interleavings that they would meet there.
fn answer<T: Send + 'static>(value: T) -> BoxFuture<T> {
    Box::pin(async move {
        let mut yielded = false;
        futures::future::poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return std::task::Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
        value
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> Op {
        Op::Put { table: Table::Meta, key: key.into(), value: value.into() }
    }

    #[tokio::test]
    async fn a_batch_above_the_quota_leaves_nothing() {
        let database = MemoryDatabase::with_quota(10);
        database.write(vec![put("a", "1234")]).await.expect("fits");
        let much = database.write(vec![put("b", "1234"), put("a", "12345")]).await;
        assert_eq!(much, Err(DatabaseError::QuotaExceeded));
        let usage = database.usage().await.expect("open");
        assert_eq!((usage.used, usage.quota), (5, Some(10)));
        let values = database.get_many(Table::Meta, vec!["a".into(), "b".into()]).await;
        assert_eq!(values, Ok(vec![Some("1234".into()), None]));
    }

    #[tokio::test]
    async fn the_quota_counts_a_batch_as_a_whole() {
        let database = MemoryDatabase::with_quota(10);
        database.write(vec![put("a", "123456789")]).await.expect("fits");
        let swap = vec![put("b", "123456789"), Op::Delete { table: Table::Meta, key: "a".into() }];
        database.write(swap).await.expect("no more than before");
    }
}
