//! What peers tell each other about what they can and have (protocol
//! `/tabpeer/capabilities/1.0.0`, see [`message`]).
//!
//! Each of two connected peers that speak it opens a stream and tells the other once, and again
//! when something changed. Of peers that do not, what they are is told from identify.
//!
//! The filter is of *roots*: the CIDs of the files and directories that a peer has in its tree, in
//! its cache and in part. Whoever looks for a block knows the root it is looked for under, and a
//! filter of all blocks would be a thousand times as large for the same answer.

pub mod announce;
pub mod bloom;
pub mod did;
mod driver;
pub mod message;
pub mod told;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Notify, watch};

use self::{
    announce::Announcements,
    bloom::{Bloom, Element, MAX_ELEMENTS},
    did::did_of,
    told::Told,
};
use crate::boxmap::BoxSet;
use crate::{
    content::block::Cid,
    network::{
        NetworkError, PeerInfo,
        peers::{PeerStreams, PeersWatch},
    },
    platform::{
        time::{Duration, Instant},
        unix_time,
    },
};

pub use message::{IpfsKind, PROTOCOL, PeerCapabilities};

/// How the protocols begin by which a peer serves blocks.
const BITSWAP: &str = "/ipfs/bitswap";

/// What this peer says about itself, besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCapabilities {
    pub kind: IpfsKind,
    /// It serves content.
    pub enabled: bool,
    pub gateways: Vec<String>,
    pub swarm_addresses: Vec<Multiaddr>,
    /// Bytes per second that it wants to send at most.
    pub bandwidth_limit: Option<u64>,
}

impl Default for OwnCapabilities {
    fn default() -> Self {
        Self {
            kind: IpfsKind::Tabpeer,
            enabled: true,
            gateways: Vec::new(),
            swarm_addresses: Vec::new(),
            bandwidth_limit: None,
        }
    }
}

/// A handle; the exchange ends when the last one is dropped or the network is closed.
#[derive(Clone)]
pub struct Capabilities {
    shared: Arc<Shared>,
    peers: PeersWatch,
    /// Dropped with the last handle, which wakes the driver.
    _alive: Arc<Alive>,
}

struct Shared {
    state: Mutex<State>,
    wake: Notify,
    /// How many messages were taken.
    heard: watch::Sender<u64>,
    started: Instant,
}

struct State {
    own: OwnCapabilities,
    did: Option<String>,
    content: BoxSet<Element>,
    sequence: u64,
    announcements: Announcements,
    told: Told,
    /// All handles are gone, or the network is.
    ended: bool,
}

struct Alive(Arc<Shared>);

impl Capabilities {
    /// Starts to tell and to listen.
    pub async fn start(
        streams: Arc<dyn PeerStreams>,
        own: OwnCapabilities,
    ) -> Result<Self, NetworkError> {
        let incoming = streams.accept(libp2p::StreamProtocol::new(PROTOCOL)).await?;
        let peers = streams.peers();
        let state = State {
            own,
            did: did_of(&streams.peer_id()),
            content: BoxSet::new(),
            sequence: first_sequence(),
            announcements: Announcements::default(),
            told: Told::default(),
            ended: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Notify::new(),
            heard: watch::Sender::new(0),
            started: Instant::now(),
        });
        driver::spawn(streams, incoming, shared.clone());
        Ok(Self { _alive: Arc::new(Alive(shared.clone())), shared, peers })
    }

    pub fn own(&self) -> OwnCapabilities {
        self.shared.state().own.clone()
    }

    pub fn set_own(&self, own: OwnCapabilities) {
        self.shared.change(|state| std::mem::replace(&mut state.own, own) != state.own);
    }

    /// Replaces what is told of the content. Of more than [`MAX_ELEMENTS`] roots some are left out.
    pub fn set_content(&self, roots: &[Cid]) {
        let content = roots.iter().filter_map(Element::of).take(MAX_ELEMENTS).collect();
        self.shared.change(|state| std::mem::replace(&mut state.content, content) != state.content);
    }

    /// Adds a root.
    pub fn add(&self, root: &Cid) {
        self.shared.change(|state| {
            let room = state.content.len() < MAX_ELEMENTS;
            Element::of(root).filter(|_| room).is_some_and(|element| state.content.insert(element))
        });
    }

    /// Takes away a root. That it was added twice does not count: who removes it knows that nothing
    /// has it any more.
    pub fn remove(&self, root: &Cid) {
        self.shared.change(|state| {
            Element::of(root).is_some_and(|element| state.content.remove(&element))
        });
    }

    /// The peers that say that they have the file or directory `root`, likely ones first. Peers
    /// that left lately are among them, at the end.
    pub fn holders(&self, root: &Cid) -> Vec<PeerId> {
        self.shared.state().told.holders(root)
    }

    /// Changes whenever a peer has said something new.
    pub fn heard(&self) -> watch::Receiver<u64> {
        self.shared.heard.subscribe()
    }

    /// What is known of `peer`: what it said, or what identify tells of a connected one.
    pub fn of(&self, peer: &PeerId) -> Option<PeerCapabilities> {
        let said = self.shared.state().told.of(peer).cloned();
        said.or_else(|| inferred(self.peers.current().get(peer)?))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// `change` says whether there is anything new to tell.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.state();
        if change(&mut state) {
            state.sequence += 1;
            state.announcements.changed(self.now());
            self.wake.notify_one();
        }
    }
}

impl State {
    /// What we say now.
    fn message(&self) -> Vec<u8> {
        let own = self.own.clone();
        let said = PeerCapabilities {
            did: self.did.clone(),
            kind: own.kind,
            enabled: own.enabled,
            gateways: own.gateways,
            swarm_addresses: own.swarm_addresses,
            bandwidth_limit: own.bandwidth_limit,
            content: Some(Bloom::of(self.content.iter().copied())),
            sequence: self.sequence,
        };
        said.encode()
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.wake.notify_one();
    }
}

impl std::fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capabilities").finish_non_exhaustive()
    }
}

fn inferred(info: &PeerInfo) -> Option<PeerCapabilities> {
    let kind = IpfsKind::of_agent(info.agent.as_deref()?)?;
    let serves = info.protocols.iter().any(|protocol| protocol.starts_with(BITSWAP));
    Some(PeerCapabilities::inferred(kind, did_of(&info.id), serves))
}

/// Above that of any earlier run of this peer.
fn first_sequence() -> u64 {
    u64::try_from(unix_time().as_millis()).unwrap_or_default()
}
