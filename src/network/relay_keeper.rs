//! Keeps a reservation at every configured relay: decides when to fetch a relay's record, dial it,
//! listen on its circuit and try again. Pure: events and the time in, actions out, jitter from a
//! seed, so that a test replays it.
//!
//! The swarm renews a reservation by itself; what it cannot do is to come back after the relay or
//! the network was gone. Time is counted from when the network was started.

use std::collections::VecDeque;

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};

use crate::platform::time::Duration;

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
    /// Another address of the relay was faster.
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
    random: SplitMix,
}

#[derive(Debug)]
struct Relay {
    target: RelayTarget,
    /// Who the relay is, as far as it was learned.
    known: Option<PeerId>,
    /// From the last record that could be fetched.
    recorded: Vec<Multiaddr>,
    phase: Phase,
    attempt: u32,
    failures: u32,
}

#[derive(Debug)]
enum Phase {
    Waiting { until: Duration, reason: Option<String> },
    Resolving { deadline: Duration },
    Dialing { remaining: VecDeque<Multiaddr>, in_flight: u32, next: Duration, deadline: Duration },
    Reserving { peer: PeerId, address: Multiaddr, deadline: Duration },
    Reserved { peer: PeerId, address: Multiaddr, since: Duration },
    Failed { reason: String },
}

impl RelayKeeper {
    pub fn new(targets: Vec<RelayTarget>, seed: u64) -> Self {
        let relays = targets.into_iter().map(Relay::new).collect();
        Self { relays, random: SplitMix(seed) }
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
        if let Some(relay) = self.relays.get_mut(index.0) {
            relay.handle(index, event, now, &mut self.random, &mut actions);
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

impl Relay {
    fn new(target: RelayTarget) -> Self {
        let known = match &target {
            RelayTarget::Address { peer, .. } => *peer,
            RelayTarget::Record { .. } | RelayTarget::Unusable { .. } => None,
        };
        let (phase, failures) = match &target {
            RelayTarget::Unusable { reason } => (Phase::Failed { reason: reason.clone() }, 1),
            _ => (Phase::Waiting { until: Duration::ZERO, reason: None }, 0),
        };
        Self { target, known, recorded: Vec::new(), phase, attempt: 0, failures }
    }

    fn wake(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Waiting { until, .. } => Some(*until),
            Phase::Resolving { deadline } | Phase::Reserving { deadline, .. } => Some(*deadline),
            Phase::Dialing { remaining, next, deadline, .. } => {
                Some(if remaining.is_empty() { *deadline } else { (*next).min(*deadline) })
            }
            Phase::Reserved { .. } | Phase::Failed { .. } => None,
        }
    }

    fn is_trying(&self) -> bool {
        matches!(
            self.phase,
            Phase::Waiting { .. } | Phase::Resolving { .. } | Phase::Dialing { .. }
        )
    }

    fn tick(
        &mut self,
        index: RelayIndex,
        now: Duration,
        random: &mut SplitMix,
        actions: &mut Vec<RelayAction>,
    ) {
        match &mut self.phase {
            Phase::Waiting { .. } => self.begin(index, now, random, actions),
            Phase::Resolving { .. } => {
                self.resolved(index, Err("its record did not come".into()), now, random, actions);
            }
            Phase::Dialing { deadline, .. } if *deadline <= now => {
                self.fail(format!("no connection after {ATTEMPT_TIMEOUT:?}"), now, random);
            }
            Phase::Dialing { .. } => self.dial_next(index, now, actions),
            Phase::Reserving { peer, .. } => {
                // Not only the listener: libp2p-relay 0.22 panics when an answer comes for a
                // reservation whose listener was removed.
                actions.push(RelayAction::Disconnect { peer: *peer });
                self.fail(format!("no reservation after {ATTEMPT_TIMEOUT:?}"), now, random);
            }
            Phase::Reserved { .. } | Phase::Failed { .. } => {}
        }
    }

    fn handle(
        &mut self,
        index: RelayIndex,
        event: RelayEvent,
        now: Duration,
        random: &mut SplitMix,
        actions: &mut Vec<RelayAction>,
    ) {
        match event {
            RelayEvent::Record(result) => {
                if matches!(self.phase, Phase::Resolving { .. }) {
                    self.resolved(index, result, now, random, actions);
                }
            }
            RelayEvent::Connected { peer, address, connection } => match self.phase {
                Phase::Reserving { .. } | Phase::Reserved { .. } => {
                    actions.push(RelayAction::CloseConnection { connection });
                }
                // A dial may succeed just after its attempt was given up: take it.
                Phase::Waiting { .. } | Phase::Resolving { .. } | Phase::Dialing { .. } => {
                    self.known = Some(peer);
                    let deadline = now + ATTEMPT_TIMEOUT;
                    self.phase = Phase::Reserving { peer, address: address.clone(), deadline };
                    actions.push(RelayAction::Listen { relay: index, peer, address });
                }
                Phase::Failed { .. } => {}
            },
            RelayEvent::DialFailed { attempt, reason } => {
                let Phase::Dialing { remaining, in_flight, .. } = &mut self.phase else { return };
                if attempt != self.attempt {
                    return;
                }
                *in_flight = in_flight.saturating_sub(1);
                if !remaining.is_empty() {
                    self.dial_next(index, now, actions);
                } else if *in_flight == 0 {
                    self.fail(reason, now, random);
                }
            }
            RelayEvent::Reserved => {
                if let Phase::Reserving { peer, address, .. } = &self.phase {
                    self.phase =
                        Phase::Reserved { peer: *peer, address: address.clone(), since: now };
                }
            }
            RelayEvent::ReservationLost { reason } | RelayEvent::Disconnected { reason } => {
                match self.phase {
                    Phase::Reserved { since, .. } => {
                        if now.saturating_sub(since) >= STABLE_AFTER {
                            self.failures = 0;
                        }
                        self.fail(reason, now, random);
                    }
                    Phase::Reserving { .. } => self.fail(reason, now, random),
                    _ => {}
                }
            }
        }
    }

    fn begin(
        &mut self,
        index: RelayIndex,
        now: Duration,
        random: &mut SplitMix,
        actions: &mut Vec<RelayAction>,
    ) {
        self.attempt = self.attempt.wrapping_add(1);
        match &self.target {
            RelayTarget::Address { address, .. } => {
                let addresses = vec![address.clone()];
                self.dial(index, addresses, now, random, actions);
            }
            RelayTarget::Record { url } => {
                actions.push(RelayAction::FetchRecord { relay: index, url: url.clone() });
                self.phase = Phase::Resolving { deadline: now + ATTEMPT_TIMEOUT };
            }
            RelayTarget::Unusable { .. } => {}
        }
    }

    /// Goes on with the record's addresses, or with the last record's if this one did not come.
    fn resolved(
        &mut self,
        index: RelayIndex,
        result: Result<(PeerId, Vec<Multiaddr>), String>,
        now: Duration,
        random: &mut SplitMix,
        actions: &mut Vec<RelayAction>,
    ) {
        match result {
            Ok((peer, addresses)) => {
                self.known = Some(peer);
                self.recorded = addresses;
                self.recorded.truncate(MAX_ADDRESSES);
            }
            Err(reason) if self.recorded.is_empty() => return self.fail(reason, now, random),
            Err(_) => {}
        }
        self.dial(index, self.recorded.clone(), now, random, actions);
    }

    fn dial(
        &mut self,
        index: RelayIndex,
        addresses: Vec<Multiaddr>,
        now: Duration,
        random: &mut SplitMix,
        actions: &mut Vec<RelayAction>,
    ) {
        if addresses.is_empty() {
            let reason = "none of its addresses can be dialled from here".into();
            return self.fail(reason, now, random);
        }
        self.phase = Phase::Dialing {
            remaining: addresses.into(),
            in_flight: 0,
            next: now,
            deadline: now + ATTEMPT_TIMEOUT,
        };
        self.dial_next(index, now, actions);
    }

    fn dial_next(&mut self, index: RelayIndex, now: Duration, actions: &mut Vec<RelayAction>) {
        let Phase::Dialing { remaining, in_flight, next, .. } = &mut self.phase else { return };
        let Some(address) = remaining.pop_front() else { return };
        *in_flight += 1;
        *next = now + HEAD_START;
        let (attempt, peer) = (self.attempt, self.known);
        actions.push(RelayAction::Dial { relay: index, attempt, peer, address });
    }

    fn fail(&mut self, reason: String, now: Duration, random: &mut SplitMix) {
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let pause = MIN_BACKOFF.saturating_mul(1 << doublings).min(MAX_BACKOFF);
        // Half of it is random, so that the peers of a relay that restarts do not come all at once.
        let until = now + pause.mul_f64(0.5 + 0.5 * random.fraction());
        self.phase = Phase::Waiting { until, reason: Some(reason) };
    }
}

/// The generator splitmix64: enough for jitter, and the same for the same seed.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    /// In [0, 1).
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
#[path = "relay_keeper_tests.rs"]
mod tests;
