//! How the network stands, as a snapshot and as something to wait for.

use libp2p::{Multiaddr, PeerId};
use tokio::sync::watch;

use super::{address, config::LONG_CIRCUIT, dht::bootstrap::DhtState};
use crate::platform::{
    Carrier,
    time::{Duration, Instant},
};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// In the order of the configuration.
    pub relays: Vec<RelayStatus>,
    /// How many peers we are connected with, relays included.
    pub connected_peers: usize,
    /// Where others reach this peer: circuits, and natively the addresses listened on.
    pub listen_addresses: Vec<Multiaddr>,
    /// The peers that are kept connected, whether or not they are at the moment.
    pub protected: Vec<PeerId>,
    pub dht: DhtState,
    /// Other tabs of this origin are found and connected.
    pub tabs: bool,
    pub closed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayStatus {
    /// As it stands in the configuration.
    pub spec: String,
    pub peer: Option<PeerId>,
    /// By which address we are connected.
    pub address: Option<Multiaddr>,
    pub state: RelayState,
    /// Attempts that failed since it was last reserved.
    pub failures: u32,
    /// What a circuit through it may carry, as far as it was told.
    pub limit: Option<CircuitLimit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayState {
    Connecting,
    /// Connected; others cannot reach us through it yet.
    Connected,
    Reserved,
    Backoff {
        next_try: Instant,
        reason: String,
    },
    /// Not usable from here; not tried again.
    Failed {
        reason: String,
    },
}

/// What a relay grants a circuit; `None`: as much as one wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CircuitLimit {
    pub bytes: Option<u64>,
    pub duration: Option<Duration>,
}

impl CircuitLimit {
    /// From what the relay said: there, 0 stands for no limit.
    pub fn new(bytes: Option<u64>, duration: Option<Duration>) -> Self {
        Self {
            bytes: bytes.filter(|bytes| *bytes > 0),
            duration: duration.filter(|duration| !duration.is_zero()),
        }
    }

    /// Too little for bulk data.
    pub fn is_limited(&self) -> bool {
        self.bytes.is_some() || self.duration.is_some_and(|duration| duration < LONG_CIRCUIT)
    }
}

impl Status {
    /// Others can reach this peer, or it is connected with one. A relay that is connected but has
    /// not granted a reservation yet does not count: nobody finds this peer there.
    pub fn online(&self) -> bool {
        let at_relay = |relay: &&RelayStatus| {
            matches!(relay.state, RelayState::Connected | RelayState::Reserved)
        };
        let relays = self.relays.iter().filter(at_relay).count();
        self.reserved().is_some() || self.connected_peers > relays
    }

    /// Whether the DHT can be asked; `None`: that is not known yet.
    pub fn dht_ready(&self) -> Option<bool> {
        match self.dht {
            DhtState::Ready => Some(!self.closed),
            DhtState::Unavailable => Some(false),
            DhtState::Bootstrapping => self.closed.then_some(false),
        }
    }

    /// The first relay that is reserved.
    pub fn reserved(&self) -> Option<&RelayStatus> {
        self.relays.iter().find(|relay| relay.state == RelayState::Reserved)
    }

    /// What waiting for a relay has come to; `None`: go on waiting.
    pub(super) fn outcome(&self) -> Option<OnlineOutcome> {
        if self.closed {
            return Some(OnlineOutcome::Closed);
        }
        if let Some(relay) = self.reserved() {
            return relay.peer.map(OnlineOutcome::Online);
        }
        if self.relays.is_empty() {
            return Some(OnlineOutcome::NoRelays);
        }
        let reasons: Vec<(String, String)> = self
            .relays
            .iter()
            .filter_map(|relay| match &relay.state {
                RelayState::Backoff { reason, .. } | RelayState::Failed { reason } => {
                    Some((relay.spec.clone(), reason.clone()))
                }
                _ => None,
            })
            .collect();
        (reasons.len() == self.relays.len()).then_some(OnlineOutcome::AllFailed(reasons))
    }
}

/// What came of waiting to be online. All but `Closed` leave the keeper trying in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnlineOutcome {
    /// Reserved at this relay.
    Online(PeerId),
    /// None is configured.
    NoRelays,
    /// Each failed for the reason beside it.
    AllFailed(Vec<(String, String)>),
    TimedOut,
    Closed,
}

impl OnlineOutcome {
    pub fn is_online(&self) -> bool {
        matches!(self, Self::Online(_))
    }
}

/// The status and its changes.
#[derive(Debug, Clone)]
pub struct StatusWatch(pub(super) watch::Receiver<Status>);

impl StatusWatch {
    pub fn current(&self) -> Status {
        self.0.borrow().clone()
    }

    /// The current one, which counts as seen.
    pub fn look(&mut self) -> Status {
        self.0.borrow_and_update().clone()
    }

    /// Resolves with the next status that was not seen yet; `None` after the network was closed.
    pub async fn changed(&mut self) -> Option<Status> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }

    /// Resolves with the first status that satisfies `condition`, the current one included.
    pub async fn wait_for(&mut self, condition: impl FnMut(&Status) -> bool) -> Option<Status> {
        self.0.wait_for(condition).await.ok().map(|status| status.clone())
    }
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    pub id: PeerId,
    /// Of the best connection.
    pub address: Multiaddr,
    /// The relay that the best connection goes through.
    pub relay: Option<PeerId>,
    /// The best connection is a circuit that may carry little: no bulk data.
    pub limited: bool,
    /// One of the configured relays.
    pub is_relay: bool,
    pub connections: usize,
    /// Empty until identify has answered.
    pub protocols: Vec<String>,
    /// Of identify, as the peer calls itself.
    pub agent: Option<String>,
    /// Of the last ping.
    pub latency: Option<Duration>,
}

impl PeerInfo {
    /// The best connection goes through a relay.
    pub fn is_circuit(&self) -> bool {
        address::split_circuit(&self.address).is_some()
    }

    /// The transport of the best connection; of a circuit, that to its relay.
    pub fn carrier(&self) -> Option<Carrier> {
        match address::split_circuit(&self.address) {
            Some((relay, _)) => Carrier::of(&relay),
            None => Carrier::of(&self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(state: RelayState) -> RelayStatus {
        let peer = Some(PeerId::random());
        let spec = "spec".to_owned();
        RelayStatus { spec, peer, address: None, state, failures: 0, limit: None }
    }

    fn status(relays: Vec<RelayState>) -> Status {
        Status { relays: relays.into_iter().map(relay).collect(), ..Status::default() }
    }

    #[test]
    fn one_reserved_relay_is_enough_and_all_must_fail() {
        let failed = || RelayState::Failed { reason: "no".into() };
        assert_eq!(status(vec![]).outcome(), Some(OnlineOutcome::NoRelays));
        assert_eq!(status(vec![failed(), RelayState::Connecting]).outcome(), None);
        let online = status(vec![failed(), RelayState::Reserved]);
        assert!(online.outcome().is_some_and(|o| o.is_online()) && online.online());
        let reasons = vec![("spec".to_owned(), "no".to_owned())];
        assert_eq!(status(vec![failed()]).outcome(), Some(OnlineOutcome::AllFailed(reasons)));
    }

    #[test]
    fn zero_is_no_limit_and_an_hour_is_enough() {
        let seconds = |s| Some(Duration::from_secs(s));
        assert!(!CircuitLimit::default().is_limited());
        assert!(!CircuitLimit::new(Some(0), seconds(0)).is_limited());
        assert!(!CircuitLimit::new(Some(0), seconds(86400)).is_limited());
        assert!(CircuitLimit::new(Some(1 << 17), seconds(120)).is_limited());
        assert!(CircuitLimit::new(None, seconds(120)).is_limited());
        assert!(CircuitLimit::new(Some(1 << 40), None).is_limited());
    }
}
