//! An in-memory [`Database`](super::database::Database).
