//! What the store asks of a database: get many, and one atomic batch of conditional writes.

use std::sync::Arc;

use bytes::Bytes;

use super::{BoxFuture, MaybeSend, MaybeSync};

/// The tables. Keys and values are bytes; what they mean is the store's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Block key → the block's bytes.
    Blocks,
    /// Block key → how many references it has beyond the first.
    Refs,
    /// Name of a root → its record.
    Roots,
    /// Identity, schema version, the mark of unfinished work.
    Meta,
}

impl Table {
    pub const ALL: [Table; 4] = [Table::Blocks, Table::Refs, Table::Roots, Table::Meta];
}

/// One step of a [`Batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes, replacing what was there.
    Put {
        table: Table,
        key: Bytes,
        value: Bytes,
    },
    /// Writes unless the key exists already; [`Database::write`] reports which did.
    PutNew {
        table: Table,
        key: Bytes,
        value: Bytes,
    },
    Delete {
        table: Table,
        key: Bytes,
    },
    /// The whole batch fails with [`DatabaseError::Conflict`] unless the key holds exactly this. Not for
    /// blocks, which a platform may keep elsewhere than in their rows.
    Expect {
        table: Table,
        key: Bytes,
        value: Option<Bytes>,
    },
}

impl Op {
    pub fn table(&self) -> Table {
        match self {
            Op::Put { table, .. }
            | Op::PutNew { table, .. }
            | Op::Delete { table, .. }
            | Op::Expect { table, .. } => *table,
        }
    }

    pub fn key(&self) -> &Bytes {
        match self {
            Op::Put { key, .. }
            | Op::PutNew { key, .. }
            | Op::Delete { key, .. }
            | Op::Expect { key, .. } => key,
        }
    }
}

/// Operations that take effect together or not at all. No key is written twice in one batch.
pub type Batch = Vec<Op>;

/// How much is stored, in bytes, as far as the platform tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    pub quota: Option<u64>,
    /// The platform promised not to evict the data under storage pressure.
    pub persistent: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    #[error("the storage quota of this origin is used up")]
    QuotaExceeded,
    #[error("another writer changed the data in between")]
    Conflict,
    #[error("the database was closed: {0}")]
    Closed(String),
    #[error(
        "the database holds data of schema version {found}, newer than {known}, the newest that this version of tabpeer knows"
    )]
    TooNew { found: u32, known: u32 },
    #[error("the database failed: {0}")]
    Failed(String),
}

pub type DatabaseResult<T> = Result<T, DatabaseError>;

/// An ordered key-value database. Every method is one transaction, started by the call itself, not
/// by the first poll of its future, and run to its end even if the future is dropped. Transactions
/// on the same table take effect in the order of the calls; the store relies on it.
pub trait Database: MaybeSend + MaybeSync + 'static {
    /// The values of `keys`, in their order. One that is there, but whose bytes the platform has lost,
    /// reads as empty: to the store a corrupt row, which its hash or its format betrays.
    fn get_many(
        &self,
        table: Table,
        keys: Vec<Bytes>,
    ) -> BoxFuture<DatabaseResult<Vec<Option<Bytes>>>>;

    /// Which of `keys` exist, in their order, without reading their values.
    fn has_many(&self, table: Table, keys: Vec<Bytes>) -> BoxFuture<DatabaseResult<Vec<bool>>>;

    /// Up to `limit` keys after `after` (exclusive; `None`: from the first), ascending.
    fn keys(
        &self,
        table: Table,
        after: Option<Bytes>,
        limit: u32,
    ) -> BoxFuture<DatabaseResult<Vec<Bytes>>>;

    /// Applies the batch durably: when this resolves, a crash of the process loses nothing of it.
    /// Returns, for each [`Op::PutNew`] in order, whether it wrote (`false`: the key was there
    /// already).
    fn write(&self, batch: Batch) -> BoxFuture<DatabaseResult<Vec<bool>>>;

    /// Whoever calls this has the database for themselves as long as it is open, and is going to use
    /// `table`: what takes time to start may start now, and it may be remembered what is there.
    fn expect_use(&self, _table: Table) {}

    fn usage(&self) -> BoxFuture<DatabaseResult<Usage>>;

    /// Waits for running writes and closes; later calls fail with [`DatabaseError::Closed`].
    fn close(&self) -> BoxFuture<()>;
}

/// Where databases come from, by name.
pub trait Databases: MaybeSend + MaybeSync + 'static {
    /// Opens the database `name`, making it if there is none.
    fn open(&self, name: String) -> BoxFuture<DatabaseResult<Arc<dyn Database>>>;
}
