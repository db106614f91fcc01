//! What an exchange protocol needs of a network: streams to and from peers, and who is there.
//!
//! A trait, because the relay moves content with the same protocols over a swarm of its own.

use std::{fmt, sync::Arc};

use libp2p::{PeerId, StreamProtocol};
use tokio::sync::watch;

use super::{IncomingStreams, Network, NetworkError, PeerInfo, Stream};
use crate::boxmap::BoxMap;
use crate::platform::{BoxFuture, MaybeSend, MaybeSync};

/// Streams to and from peers, and who is connected.
pub trait PeerStreams: MaybeSend + MaybeSync + 'static {
    /// Opens a stream. A [`Network`] connects first if need be, within its time-out for dials; the
    /// relay never dials and fails with [`NetworkError::PeerUnreachable`].
    fn open_stream(
        &self,
        peer: PeerId,
        protocol: StreamProtocol,
    ) -> BoxFuture<Result<Stream, NetworkError>>;

    /// Accepts the streams that others open for `protocol`, until the answer is dropped.
    fn accept(&self, protocol: StreamProtocol) -> BoxFuture<Result<IncomingStreams, NetworkError>>;

    /// The connected peers and what is known of them.
    fn peers(&self) -> PeersWatch;

    fn peer_id(&self) -> PeerId;
}

/// The connected peers.
pub type Peers = BoxMap<PeerId, PeerInfo>;

/// The connected peers and their changes: connected, disconnected, identified, another connection
/// is the best now, pinged. What it hands out should be dropped soon: while it is held, the next
/// change copies it.
#[derive(Clone)]
pub struct PeersWatch(watch::Receiver<Arc<Peers>>);

impl PeersWatch {
    /// For an owner of a swarm, who keeps the sender and drops it when the network is closed.
    pub fn new(receiver: watch::Receiver<Arc<Peers>>) -> Self {
        Self(receiver)
    }

    pub fn current(&self) -> Arc<Peers> {
        self.0.borrow().clone()
    }

    /// The current state, which counts as seen.
    pub fn look(&mut self) -> Arc<Peers> {
        self.0.borrow_and_update().clone()
    }

    /// Resolves with the next state that was not seen yet; `None` after the network was closed.
    pub async fn changed(&mut self) -> Option<Arc<Peers>> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }
}

impl PeerStreams for Network {
    fn open_stream(
        &self,
        peer: PeerId,
        protocol: StreamProtocol,
    ) -> BoxFuture<Result<Stream, NetworkError>> {
        let network = self.clone();
        Box::pin(async move { Self::open_stream(&network, peer, protocol).await })
    }

    fn accept(&self, protocol: StreamProtocol) -> BoxFuture<Result<IncomingStreams, NetworkError>> {
        let network = self.clone();
        Box::pin(async move { Self::accept(&network, protocol).await })
    }

    fn peers(&self) -> PeersWatch {
        PeersWatch(self.0.peers.clone())
    }

    fn peer_id(&self) -> PeerId {
        Self::peer_id(self)
    }
}

impl fmt::Debug for PeersWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeersWatch").field(&self.0.borrow().len()).finish()
    }
}
