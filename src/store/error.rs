//! What can go wrong in the store, named for what a caller can do about it.

use cid::Cid;

use crate::{content::dagpb::PbError, platform::database::DatabaseError};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Free space, then try again; nothing of the failed work is left.
    #[error("the storage quota is used up")]
    QuotaExceeded,
    /// Fetch it again: see [`super::Store::evict_corrupt`].
    #[error("the stored bytes of block {cid} do not hash to it")]
    Corrupt { cid: Cid },
    /// Some of the blocks that a commit would make reachable are not there (at most
    /// [`super::MAX_REPORTED_MISSING`] are named).
    #[error("{} block(s) missing below what was to be committed, first {}", .missing.len(), first(.missing))]
    Incomplete { missing: Vec<Cid> },
    /// Read the root again and redo the change on top of it.
    #[error("root {name:?} is not what the change expected: {found:?}")]
    RootConflict { name: String, found: Option<Cid> },
    #[error("block {cid} cannot be stored: {reason}")]
    BadBlock { cid: Cid, reason: PbError },
    #[error("the database holds a row of table {table} that cannot be read: {row}")]
    BadRow { table: &'static str, row: String },
    #[error(transparent)]
    Database(DatabaseError),
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::QuotaExceeded => Self::QuotaExceeded,
            error => Self::Database(error),
        }
    }
}

fn first(missing: &[Cid]) -> String {
    missing.first().map(Cid::to_string).unwrap_or_default()
}
