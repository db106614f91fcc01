//! Databases in memory whose reads take a few turns, as those of a browser or a disk do.

use std::sync::Arc;

use tabpeer::platform::{
    BoxFuture,
    database::{Database, DatabaseResult, Databases},
    memory::MemoryDatabases,
};

use super::probe::Probe;

/// How often the task that waits for a read is polled in vain.
const TURNS: u64 = 5;

pub struct SlowDatabases(pub Arc<MemoryDatabases>);

impl Databases for SlowDatabases {
    fn open(&self, name: String) -> BoxFuture<DatabaseResult<Arc<dyn Database>>> {
        let opening = self.0.open(name);
        Box::pin(async move {
            let slow = Probe::new(opening.await?);
            slow.delay_reads(TURNS);
            Ok(Arc::new(slow) as Arc<dyn Database>)
        })
    }
}
