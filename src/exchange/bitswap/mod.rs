//! Bitswap 1.2.0: blocks from and for other peers. The codec, the client and the server are pure; the
//! driver runs them over libp2p streams.
//!
//! One task owns both sides ([`driver`]). Each stream that a peer opens has a task that reads,
//! cuts and verifies; each peer that something is said to has a task that writes, over one stream
//! that is closed when idle. A [`Session`] talks to the driver through a small shared state and not
//! through a channel, because its calls must neither wait nor get lost.

pub mod client;
mod driver;
pub mod message;
pub mod server;
mod session;

use std::sync::{Arc, Mutex, atomic::AtomicBool};

use libp2p::{PeerId, StreamProtocol};
use tokio::sync::{Notify, oneshot};

use self::{client::PeerStats, message::PROTOCOL, session::Line};
use crate::boxmap::BoxMap;
use crate::{
    network::{NetworkError, PeerStreams},
    platform::task,
    store::Store,
};

pub use session::{
    MAX_SESSION_BUFFER, MAX_SESSION_PROVIDERS, MAX_SESSION_WANTS, Session, SessionEvent,
};

/// Sessions open at once.
pub const MAX_SESSIONS: usize = 1024;
/// Callers of [`Bitswap::stats`] that wait.
const MAX_STATS_CALLERS: usize = 64;

/// A running Bitswap; clones share it. It serves what `store` has to every peer, and fetches for
/// its sessions. It ends with the network, or when the last handle and the last session are gone.
#[derive(Clone)]
pub struct Bitswap(Arc<Handle>);

impl Bitswap {
    pub async fn start(streams: Arc<dyn PeerStreams>, store: Store) -> Result<Self, NetworkError> {
        let incoming = streams.accept(StreamProtocol::new(PROTOCOL)).await?;
        let hub = Arc::<Hub>::default();
        task::spawn(driver::run(hub.clone(), streams, store, incoming));
        Ok(Self(Arc::new(Handle(hub))))
    }

    /// A new fetch.
    pub fn session(&self) -> Result<Session, NetworkError> {
        let hub = &self.0.0;
        let line = Arc::<Line>::default();
        let mut opened = session::lock(&hub.opened);
        if hub.is_closed() {
            return Err(NetworkError::Closed);
        }
        if Arc::strong_count(&self.0) > MAX_SESSIONS {
            return Err(NetworkError::TooMany { what: "Bitswap sessions", limit: MAX_SESSIONS });
        }
        opened.push(line.clone());
        drop(opened);
        Ok(Session::new(self.0.clone(), line))
    }

    /// How the connected peers have done.
    pub async fn stats(&self) -> BoxMap<PeerId, PeerTraffic> {
        let hub = &self.0.0;
        let (reply, answer) = oneshot::channel();
        {
            let mut callers = session::lock(&hub.stats_callers);
            callers.retain(|caller| !caller.is_closed());
            if hub.is_closed() || callers.len() >= MAX_STATS_CALLERS {
                return BoxMap::new();
            }
            callers.push(reply);
        }
        hub.wake.notify_one();
        answer.await.unwrap_or_default()
    }
}

/// What has passed between a peer and this one since it connected.
#[derive(Debug, Clone, Default)]
pub struct PeerTraffic {
    /// Bytes of messages sent: wants, blocks, all.
    pub sent: u64,
    /// Bytes of blocks received, asked for or not.
    pub received: u64,
    /// How it has done as a provider.
    pub client: PeerStats,
}

/// What the handles and sessions share with the driver.
#[derive(Default)]
struct Hub {
    /// Sessions that the driver has not taken up yet.
    opened: Mutex<Vec<Arc<Line>>>,
    stats_callers: Mutex<Vec<oneshot::Sender<BoxMap<PeerId, PeerTraffic>>>>,
    /// There is something new here or in a session.
    wake: Notify,
    /// The driver has ended, or is to.
    closed: AtomicBool,
}

/// The last one ends the driver. One for each handle and session.
struct Handle(Arc<Hub>);

impl Hub {
    fn is_closed(&self) -> bool {
        self.closed.load(std::sync::atomic::Ordering::Acquire)
    }

    fn close(&self) {
        self.closed.store(true, std::sync::atomic::Ordering::Release);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
        self.0.wake.notify_one();
    }
}

impl std::fmt::Debug for Bitswap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bitswap").finish_non_exhaustive()
    }
}
