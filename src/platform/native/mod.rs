//! A native process: tokio, TCP and WebSocket.

mod lock;

use bytes::Bytes;

use crate::content::block::{self, Digest};

pub use lock::Lock;

pub async fn sha256(data: Bytes) -> Digest {
    block::sha256(&data)
}
