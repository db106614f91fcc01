//! A native process: tokio, TCP and WebSocket, redb.

mod http;
mod lock;
pub mod redb;
mod transport;

use bytes::Bytes;

use crate::{
    content::block::{self, Digest},
    platform::time::Duration,
};

pub use http::http_get;
pub use lock::Lock;
pub use transport::{base_transport, dialer, swarm_config};

#[allow(clippy::disallowed_types, reason = "this is where the platform's clock is read")]
pub fn unix_time() -> Duration {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

pub async fn sha256(data: Bytes) -> Digest {
    block::sha256(&data)
}
