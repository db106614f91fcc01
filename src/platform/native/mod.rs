//! A native process: tokio, TCP and WebSocket.

use bytes::Bytes;

use crate::content::block::{self, Digest};

pub async fn sha256(data: Bytes) -> Digest {
    block::sha256(&data)
}
