//! Databases in memory whose reads take a few turns, as those of a browser or a disk do.

use std::sync::Arc;

use bytes::Bytes;
use tabpeer::platform::{
    BoxFuture,
    database::{Batch, Database, DatabaseResult, Databases, Table, Usage},
    memory::MemoryDatabases,
};

/// How often the task that waits for a read is polled in vain.
const TURNS: usize = 5;

pub struct SlowDatabases(pub Arc<MemoryDatabases>);

struct Slow(Arc<dyn Database>);

impl Databases for SlowDatabases {
    fn open(&self, name: String) -> BoxFuture<DatabaseResult<Arc<dyn Database>>> {
        let opening = self.0.open(name);
        Box::pin(async move { Ok(Arc::new(Slow(opening.await?)) as Arc<dyn Database>) })
    }
}

impl Database for Slow {
    fn get_many(
        &self,
        table: Table,
        keys: Vec<Bytes>,
    ) -> BoxFuture<DatabaseResult<Vec<Option<Bytes>>>> {
        slowly(self.0.get_many(table, keys))
    }

    fn has_many(&self, table: Table, keys: Vec<Bytes>) -> BoxFuture<DatabaseResult<Vec<bool>>> {
        slowly(self.0.has_many(table, keys))
    }

    fn keys(
        &self,
        table: Table,
        after: Option<Bytes>,
        limit: u32,
    ) -> BoxFuture<DatabaseResult<Vec<Bytes>>> {
        slowly(self.0.keys(table, after, limit))
    }

    fn write(&self, batch: Batch) -> BoxFuture<DatabaseResult<Vec<bool>>> {
        self.0.write(batch)
    }

    fn usage(&self) -> BoxFuture<DatabaseResult<Usage>> {
        self.0.usage()
    }

    fn close(&self) -> BoxFuture<()> {
        self.0.close()
    }
}

fn slowly<T: Send + 'static>(answer: BoxFuture<DatabaseResult<T>>) -> BoxFuture<DatabaseResult<T>> {
    Box::pin(async move {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        answer.await
    })
}
