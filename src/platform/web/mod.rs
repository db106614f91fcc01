//! A browser's page or worker.

mod hash;
pub mod idb;
mod lock;
mod storage;

pub use hash::sha256;
pub use lock::Lock;
