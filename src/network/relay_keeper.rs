//! Keeps a reservation at every configured relay: decides when to fetch a relay's record, dial it,
//! listen on its circuit and try again. Pure: events and the time in, actions out, jitter from a
//! seed, so that a test replays it.
//!
//! The swarm renews a reservation by itself; what it cannot do is to come back after the relay or
//! the network was gone. Time is counted from when the network was started.

mod relay;

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};

use self::relay::{Phase, Relay};
use crate::platform::time::Duration;
use crate::random::Random;

/// The first pause after a failure; doubles up to [`MAX_BACKOFF`].
pub const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause between two attempts.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// A reservation that held this long makes the next pause a short one again.
pub const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How much of a head start an address has over the next one of the same relay.
pub const HEAD_START: Duration = Duration::from_millis(700);
/// An attempt that has not come to a reservation after this long has failed.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// A nudge begins an attempt anew that is older than this: what it dials may go where the network was.
pub const STALE_AFTER: Duration = Duration::from_secs(3);
/// The most addresses of one relay that are tried in an attempt.
pub const MAX_ADDRESSES: usize = 8;

/// Which of the configured relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayIndex(pub usize);

/// Where a relay is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayTarget {
    /// At this address; without an id, whoever answers there is the relay.
    Address { address: Multiaddr, peer: Option<PeerId> },
    /// At the addresses in the record at this URL.
    Record { url: String },
    /// Nowhere that this platform could reach.
    Unusable { reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayEvent {
    /// The record was fetched; its addresses are those that can be dialled from here, best first.
    Record(Result<(PeerId, Vec<Multiaddr>), String>),
    Connected {
        peer: PeerId,
        address: Multiaddr,
        connection: ConnectionId,
        /// It was there already, for another reason.
        shared: bool,
    },
    /// A dial of this attempt failed.
    DialFailed {
        attempt: u32,
        reason: String,
    },
    Reserved,
    ReservationLost {
        reason: String,
    },
    /// The last connection to the relay is gone.
    Disconnected {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayAction {
    FetchRecord {
        relay: RelayIndex,
        url: String,
    },
    Dial {
        relay: RelayIndex,
        attempt: u32,
        peer: Option<PeerId>,
        address: Multiaddr,
    },
    /// Reserve: listen on the circuit.
    Listen {
        relay: RelayIndex,
        peer: PeerId,
        address: Multiaddr,
    },
    /// Another connection with the relay is in use.
    CloseConnection {
        connection: ConnectionId,
    },
    /// Close every connection with the relay: it does not answer.
    Disconnect {
        peer: PeerId,
    },
    /// Find out whether the connection still lives.
    Probe {
        relay: RelayIndex,
        peer: PeerId,
    },
}

/// How a relay stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayPhase {
    Connecting,
    /// Connected, the reservation is asked for.
    Connected,
    Reserved,
    /// Tried again at `until`.
    Backoff {
        until: Duration,
        reason: String,
    },
    /// Never tried again.
    Failed {
        reason: String,
    },
}

/// The machine.
#[derive(Debug)]
pub struct RelayKeeper {
    relays: Vec<Relay>,
    random: Random,
}

impl RelayKeeper {
    pub fn new(targets: Vec<RelayTarget>, seed: u64) -> Self {
        let relays = targets.into_iter().map(Relay::new).collect();
        Self { relays, random: Random(seed) }
    }

    pub fn len(&self) -> usize {
        self.relays.len()
    }

    pub fn is_empty(&self) -> bool {
        self.relays.is_empty()
    }

    /// What is due at `now`; call it first at the start and then at [`next_wake`](Self::next_wake).
    pub fn tick(&mut self, now: Duration) -> Vec<RelayAction> {
        let mut actions = Vec::new();
        for index in 0..self.relays.len() {
            let Some(relay) = self.relays.get_mut(index) else { break };
            let due = relay.wake().is_some_and(|at| at <= now);
            if due {
                relay.tick(RelayIndex(index), now, &mut self.random, &mut actions);
            }
        }
        actions
    }

    pub fn next_wake(&self) -> Option<Duration> {
        self.relays.iter().filter_map(Relay::wake).min()
    }

    pub fn handle(
        &mut self,
        index: RelayIndex,
        event: RelayEvent,
        now: Duration,
    ) -> Vec<RelayAction> {
        let mut actions = Vec::new();
        // Two reservations at one relay would take turns in ending each other.
        let twin = match &event {
            RelayEvent::Connected { peer, .. } => {
                self.connected().any(|(other, known, _)| other != index && known == *peer)
            }
            _ => false,
        };
        if let Some(relay) = self.relays.get_mut(index.0) {
            if twin {
                relay.yield_to_twin(event, now, &mut self.random, &mut actions);
            } else {
                relay.handle(index, event, now, &mut self.random, &mut actions);
            }
        }
        actions
    }

    /// The platform says that the network may have come back: try what waits, probe what stands.
    pub fn nudge(&mut self, now: Duration) -> Vec<RelayAction> {
        let mut actions = Vec::new();
        for (index, relay) in self.relays.iter_mut().enumerate() {
            let index = RelayIndex(index);
            match &mut relay.phase {
                Phase::Waiting { until, .. } => {
                    *until = now;
                    relay.tick(index, now, &mut self.random, &mut actions);
                }
                Phase::Reserved { peer, .. } => {
                    actions.push(RelayAction::Probe { relay: index, peer: *peer });
                }
                Phase::Resolving { deadline } | Phase::Dialing { deadline, .. }
                    if *deadline + STALE_AFTER <= now + ATTEMPT_TIMEOUT =>
                {
                    relay.begin(index, now, &mut self.random, &mut actions);
                }
                _ => {}
            }
        }
        actions
    }

    /// The relays that we are connected with and by which address.
    pub fn connected(&self) -> impl Iterator<Item = (RelayIndex, PeerId, &Multiaddr)> {
        self.relays.iter().enumerate().filter_map(|(i, relay)| match &relay.phase {
            Phase::Reserving { peer, address, .. } | Phase::Reserved { peer, address, .. } => {
                Some((RelayIndex(i), *peer, address))
            }
            _ => None,
        })
    }

    /// A relay is being reached for the first time.
    pub fn is_trying(&self) -> bool {
        self.relays.iter().any(|relay| relay.failures == 0 && relay.is_trying())
    }

    /// The relay that `peer` is.
    pub fn index_of(&self, peer: PeerId) -> Option<RelayIndex> {
        self.relays.iter().position(|relay| relay.known == Some(peer)).map(RelayIndex)
    }

    pub fn peer(&self, index: RelayIndex) -> Option<PeerId> {
        self.relays.get(index.0)?.known
    }

    pub fn phase(&self, index: RelayIndex) -> Option<RelayPhase> {
        self.relays.get(index.0).map(|relay| match &relay.phase {
            Phase::Waiting { reason: None, .. }
            | Phase::Resolving { .. }
            | Phase::Dialing { .. } => RelayPhase::Connecting,
            Phase::Waiting { until, reason: Some(reason) } => {
                RelayPhase::Backoff { until: *until, reason: reason.clone() }
            }
            Phase::Reserving { .. } => RelayPhase::Connected,
            Phase::Reserved { .. } => RelayPhase::Reserved,
            Phase::Failed { reason } => RelayPhase::Failed { reason: reason.clone() },
        })
    }

    /// Attempts that failed since the last reservation that held.
    pub fn failures(&self, index: RelayIndex) -> u32 {
        self.relays.get(index.0).map_or(0, |relay| relay.failures)
    }
}

#[cfg(test)]
mod tests;
