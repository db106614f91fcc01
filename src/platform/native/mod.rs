//! A native process: tokio, TCP and WebSocket, redb.

mod http;
mod lock;
mod nearby;
pub mod redb;
mod transport;

use bytes::Bytes;

use crate::{
    content::block::{self, Digest},
    platform::time::Duration,
};

pub(super) use http::http_open;
pub use lock::Lock;
pub use nearby::Finder;
pub use transport::{base_transport, dialer, swarm_config};

/// A hash of less than this is done sooner than it is handed to another thread.
const OTHER_THREAD_LEN: usize = 64 << 10;

#[allow(clippy::disallowed_types, reason = "this is where the platform's clock is read")]
pub fn unix_time() -> Duration {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// Large blocks are hashed on another thread, several at a time.
pub async fn sha256(data: Bytes) -> Digest {
    if data.len() >= OTHER_THREAD_LEN && tokio::runtime::Handle::try_current().is_ok() {
        let handed = data.clone();
        // It fails only when the runtime ends, and then nobody waits for the answer.
        if let Ok(digest) = tokio::task::spawn_blocking(move || block::sha256(&handed)).await {
            return digest;
        }
    }
    block::sha256(&data)
}
