//! The network of a peer: connections, streams, relays.
//!
//! One task owns the swarm ([`event_loop`]). A [`Network`] is a handle to it: each call sends a
//! command with the place for its answer, and giving up the call drops that place, which ends the
//! work. The decisions that need no network are pure and stand beside it: when to dial which relay
//! ([`relay_keeper`]), whether a relay's record is genuine ([`relay_record`]), which addresses are of
//! use ([`address`]).

pub mod address;
mod address_book;
pub mod awake;
mod behaviour;
mod command;
pub mod config;
pub mod connections;
pub mod dht;
mod dialing;
pub mod error;
mod event_loop;
pub mod gossip;
mod keeping;
mod nearby;
pub mod nearby_keeper;
pub mod peer_keeper;
pub mod peers;
pub mod pong;
mod relay_driver;
pub mod relay_keeper;
pub mod relay_record;
pub mod status;
pub mod streams;
mod swarm_events;
pub mod topic_keeper;
mod topics;
mod wanted;
pub mod water_marks;

use std::sync::Arc;

use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::{mpsc, oneshot, watch};

use self::{
    command::Command,
    config::{COMMAND_QUEUE, MAX_RELAYS},
    event_loop::EventLoop,
    peers::Peers,
    relay_keeper::RelayTarget,
    status::StatusWatch,
};
use crate::platform::{dialer, task, time};

pub use self::{
    config::{NetworkConfig, RelaySpec},
    dht::{Providers, bootstrap::DhtState},
    error::NetworkError,
    peers::{PeerStreams, PeersWatch},
    status::{CircuitLimit, OnlineOutcome, PeerInfo, RelayState, RelayStatus, Status},
    streams::{IncomingStreams, Stream},
    topics::SubscribedTopics,
};

/// Whom to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialTarget {
    /// At the addresses known of it and through every connected relay.
    Peer(PeerId),
    /// At this address; with an id in it, everywhere else as well.
    Address(Multiaddr),
}

impl From<PeerId> for DialTarget {
    fn from(peer: PeerId) -> Self {
        Self::Peer(peer)
    }
}

impl From<Multiaddr> for DialTarget {
    fn from(address: Multiaddr) -> Self {
        Self::Address(address)
    }
}

/// A handle to the network; cheap to clone. The network ends with [`close`](Self::close) or when the
/// last handle is dropped.
#[derive(Debug, Clone)]
pub struct Network(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    peer: PeerId,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    peers: watch::Receiver<Arc<Peers>>,
    topics: SubscribedTopics,
    shared: topics::Shared,
}

impl Network {
    /// Starts the network in a task of its own. Resolves at once: the relays are dialled in the
    /// background, see [`wait_online`](Self::wait_online).
    pub fn start(config: NetworkConfig) -> Result<Self, NetworkError> {
        if config.relays.len() > MAX_RELAYS {
            return Err(NetworkError::TooMany { what: "relays", limit: MAX_RELAYS });
        }
        refuse_unusable(&config.relays)?;
        let peer = config.keypair.public().to_peer_id();
        let (commands, received) = mpsc::channel(COMMAND_QUEUE);
        let (status_sender, status) = watch::channel(Status::default());
        let (peers_sender, peers) = watch::channel(Arc::default());
        let (topics_sender, topics) = watch::channel(Arc::default());
        let shared = topics::Shared::default();
        let told = (shared.clone(), topics_sender);
        let event_loop = EventLoop::new(config, received, status_sender, peers_sender, told)?;
        drop(task::spawn(event_loop.run()));
        Ok(Self(Arc::new(Handle { peer, commands, status, peers, topics, shared })))
    }

    pub fn peer_id(&self) -> PeerId {
        self.0.peer
    }

    /// Connects, unless connected already, and says with whom.
    pub async fn dial(&self, target: impl Into<DialTarget>) -> Result<PeerId, NetworkError> {
        let target = target.into();
        self.call(|reply| Command::Dial { target, reply }).await?
    }

    /// Opens a stream, connecting first if need be. Takes a direct connection before a circuit.
    pub async fn open_stream(
        &self,
        peer: PeerId,
        protocol: StreamProtocol,
    ) -> Result<Stream, NetworkError> {
        let (reply, answer) = oneshot::channel();
        let name = protocol.to_string();
        self.send(Command::OpenStream { peer, protocol, reply }).await?;
        match answer.await {
            Ok(result) => result,
            Err(_) if self.is_closed() => Err(NetworkError::Closed),
            Err(_) => Err(NetworkError::ConnectionLost {
                peer,
                protocol: name,
                reason: "it was closed".to_owned(),
            }),
        }
    }

    /// Accepts the streams that others open for `protocol`, until the answer is dropped.
    pub async fn accept(&self, protocol: StreamProtocol) -> Result<IncomingStreams, NetworkError> {
        self.call(|reply| Command::Accept { protocol, reply }).await?
    }

    pub async fn connected_peers(&self) -> Result<Vec<PeerInfo>, NetworkError> {
        self.call(|reply| Command::ConnectedPeers { reply }).await
    }

    /// Whether a connected peer says that it speaks `protocol`; `None` while it has not said.
    pub async fn supports(
        &self,
        peer: PeerId,
        protocol: StreamProtocol,
    ) -> Result<Option<bool>, NetworkError> {
        self.call(|reply| Command::Supports { peer, protocol, reply }).await
    }

    /// Looks for peers that are said to have what `key` (a multihash) names, `limit` at most, in the
    /// DHT. Where they are goes into the address book, so that they can be dialled. Waits until the DHT can
    /// be asked ([`dht::bootstrap`]), and then ends within [`config::DHT_QUERY_TIMEOUT`].
    pub async fn providers(&self, key: Vec<u8>, limit: usize) -> Result<Providers, NetworkError> {
        self.call(|reply| Command::FindProviders { key, limit, reply }).await?
    }

    /// Tells the DHT that this peer has what `key` (a multihash) names. It forgets after a day.
    pub async fn provide(&self, key: Vec<u8>) -> Result<(), NetworkError> {
        self.call(|reply| Command::Provide { key, reply }).await?
    }

    /// Where a peer is, best first, each address with its id at the end: as far as it is known here, else
    /// what the DHT knows. Waits for the DHT like [`providers`](Self::providers).
    pub async fn find_peer(&self, peer: PeerId) -> Result<Vec<Multiaddr>, NetworkError> {
        self.call(|reply| Command::FindPeer { peer, reply }).await?
    }

    /// Resolves when the DHT can be asked, `true`, or could not be in time, `false`; operations wait for
    /// that by themselves.
    pub async fn dht_ready(&self) -> bool {
        let known = self.status().wait_for(|status| status.dht_ready().is_some()).await;
        known.and_then(|status| status.dht_ready()).unwrap_or(false)
    }

    /// The topics that this peer is subscribed to.
    pub fn subscribed_topics(&self) -> SubscribedTopics {
        self.0.topics.clone()
    }

    /// Protects peers, so that they are dialled now and whenever they are gone, and never closed to make
    /// room; or no longer, then connections stay while they are of use. Resolves when that is noted. All
    /// of them, or none if they are more than [`peer_keeper::MAX_KEPT_PEERS`] together with those before.
    pub async fn protect(&self, peers: Vec<PeerId>, protect: bool) -> Result<(), NetworkError> {
        self.call(|reply| Command::Protect { peers, protect, reply }).await?
    }

    /// The platform says that the network may have come back, or gone: relays and protected peers that
    /// wait are dialled now and those that are connected are probed. Never blocks; a nudge more or less
    /// is no matter.
    pub fn nudge(&self) {
        let _ = self.0.commands.try_send(Command::Nudge);
    }

    pub fn status(&self) -> StatusWatch {
        StatusWatch(self.0.status.clone())
    }

    /// Resolves as soon as one relay is reserved, when all have failed, or after `timeout`. The
    /// keeper goes on trying in any case.
    pub async fn wait_online(&self, timeout: time::Duration) -> OnlineOutcome {
        let mut status = self.0.status.clone();
        let outcome = status.wait_for(|status| status.outcome().is_some());
        match time::timeout(timeout, outcome).await {
            Ok(Ok(status)) => status.outcome().unwrap_or(OnlineOutcome::Closed),
            Ok(Err(_)) => OnlineOutcome::Closed,
            Err(_) => OnlineOutcome::TimedOut,
        }
    }

    /// Closes the connections in good order and ends the network. Calls that are under way fail with
    /// [`NetworkError::Closed`]. Closing twice is no error.
    pub async fn close(&self) {
        let _ = self.call(|reply| Command::Close { reply }).await;
        self.0.commands.closed().await;
    }

    pub fn is_closed(&self) -> bool {
        self.0.commands.is_closed()
    }

    async fn call<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, NetworkError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| NetworkError::Closed)
    }

    async fn send(&self, command: Command) -> Result<(), NetworkError> {
        self.0.commands.send(command).await.map_err(|_| NetworkError::Closed)
    }
}

/// One relay that cannot be dialled from here may stand among others that can; if none can, the
/// caller has made a mistake.
fn refuse_unusable(relays: &[RelaySpec]) -> Result<(), NetworkError> {
    let mut refused = None;
    for relay in relays {
        match relay.target(dialer()) {
            RelayTarget::Unusable { reason } => {
                let spec = relay.to_string();
                refused.get_or_insert(NetworkError::InvalidRelay { spec, reason });
            }
            RelayTarget::Record { .. } | RelayTarget::Address { .. } => return Ok(()),
        }
    }
    refused.map_or(Ok(()), Err)
}
