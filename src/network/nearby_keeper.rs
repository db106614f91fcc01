//! When to dial which peer that was found nearby. Pure.
//!
//! Both ends find each other at about the same time. The one with the lower id dials, the other only if
//! nothing has come of that after a while.

use libp2p::{Multiaddr, PeerId};

use super::config::{MAX_ADDRESSES_PER_PEER, MAX_NEARBY};
use crate::boxmap::BoxMap;
use crate::platform::time::Duration;

/// How long the one with the higher id waits for the other.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Before the second attempt; doubles with each, up to [`MAX_WAIT`].
pub const MIN_WAIT: Duration = Duration::from_secs(1);
pub const MAX_WAIT: Duration = Duration::from_secs(60);
/// A connection that lasted so long was a success.
pub const STABLE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct NearbyKeeper {
    own: PeerId,
    peers: BoxMap<PeerId, Near>,
}

#[derive(Debug)]
struct Near {
    /// The one that was found last comes first.
    addresses: Vec<Multiaddr>,
    phase: Phase,
    failures: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// To be dialled then.
    Waiting(Duration),
    Dialling,
    /// Since.
    Connected(Duration),
}

impl NearbyKeeper {
    pub fn new(own: PeerId) -> Self {
        Self { own, peers: BoxMap::new() }
    }

    /// The peer is there. Whether that is news.
    pub fn found(
        &mut self,
        peer: PeerId,
        address: Multiaddr,
        connected: bool,
        now: Duration,
    ) -> bool {
        let is_new = !self.peers.contains_key(&peer);
        if peer == self.own || (is_new && self.peers.len() >= MAX_NEARBY) {
            return false;
        }
        let first = now + self.patience(peer);
        let near = self.peers.entry(peer).or_insert_with(|| Near {
            addresses: Vec::new(),
            phase: Phase::Waiting(first),
            failures: 0,
        });
        near.addresses.retain(|known| *known != address);
        near.addresses.truncate(MAX_ADDRESSES_PER_PEER - 1);
        near.addresses.insert(0, address);
        // It has come back: what failed before says nothing.
        near.failures = 0;
        near.phase = match near.phase {
            _ if is_new && connected => Phase::Connected(now),
            Phase::Waiting(_) => Phase::Waiting(first),
            Phase::Dialling => Phase::Dialling,
            Phase::Connected(since) => Phase::Connected(since),
        };
        is_new
    }

    /// It is no longer at this address. Whether it is nowhere any more.
    pub fn gone(&mut self, peer: PeerId, address: &Multiaddr) -> bool {
        let Some(near) = self.peers.get_mut(&peer) else { return false };
        near.addresses.retain(|known| known != address);
        let nowhere = near.addresses.is_empty();
        if nowhere {
            self.peers.remove(&peer);
        }
        nowhere
    }

    /// There is a direct connection.
    pub fn connected(&mut self, peer: PeerId, now: Duration) {
        if let Some(near) = self.peers.get_mut(&peer)
            && !matches!(near.phase, Phase::Connected(_))
        {
            near.phase = Phase::Connected(now);
        }
    }

    /// There is none any more.
    pub fn disconnected(&mut self, peer: PeerId, now: Duration) {
        let patience = self.patience(peer);
        let Some(near) = self.peers.get_mut(&peer) else { return };
        let Phase::Connected(since) = near.phase else { return };
        if now.saturating_sub(since) >= STABLE {
            near.failures = 0;
        }
        near.fail(patience, now);
    }

    pub fn failed(&mut self, peer: PeerId, now: Duration) {
        let patience = self.patience(peer);
        if let Some(near) = self.peers.get_mut(&peer)
            && near.phase == Phase::Dialling
        {
            near.fail(patience, now);
        }
    }

    /// Who is to be dialled now; what comes of it is to be told.
    pub fn due(&mut self, now: Duration) -> Vec<PeerId> {
        let mut due = Vec::new();
        for (peer, near) in &mut self.peers {
            if matches!(near.phase, Phase::Waiting(at) if at <= now) {
                near.phase = Phase::Dialling;
                due.push(*peer);
            }
        }
        due
    }

    pub fn next_wake(&self) -> Option<Duration> {
        let wakes = self.peers.values().filter_map(|near| match near.phase {
            Phase::Waiting(at) => Some(at),
            Phase::Dialling | Phase::Connected(_) => None,
        });
        wakes.min()
    }

    pub fn addresses(&self, peer: PeerId) -> Vec<Multiaddr> {
        self.peers.get(&peer).map(|near| near.addresses.clone()).unwrap_or_default()
    }

    pub fn knows(&self, peer: PeerId) -> bool {
        self.peers.contains_key(&peer)
    }

    fn patience(&self, peer: PeerId) -> Duration {
        if self.own < peer { Duration::ZERO } else { PATIENCE }
    }
}

impl Near {
    fn fail(&mut self, patience: Duration, now: Duration) {
        let wait = MIN_WAIT.saturating_mul(1 << self.failures.min(10)).min(MAX_WAIT);
        self.failures += 1;
        self.phase = Phase::Waiting(now + patience + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn at(tab: u64) -> Multiaddr {
        libp2p::multiaddr::Protocol::Memory(tab).into()
    }

    /// Of the peer with the lower id, and the other's.
    fn pair() -> (NearbyKeeper, NearbyKeeper) {
        let [a, b] = [(); 2].map(|()| PeerId::random());
        (NearbyKeeper::new(a.min(b)), NearbyKeeper::new(a.max(b)))
    }

    #[test]
    fn one_dials_and_the_other_waits_for_it() {
        let (mut low, mut high) = pair();
        let ids = (low.own, high.own);
        assert!(
            low.found(ids.1, at(2), false, secs(1)) && high.found(ids.0, at(1), false, secs(1))
        );
        assert_eq!((low.due(secs(1)), high.due(secs(1))), (vec![ids.1], vec![]));
        low.connected(ids.1, secs(1));
        assert_eq!(low.next_wake(), None);
        // Nothing came of it.
        assert_eq!(high.next_wake(), Some(secs(1) + PATIENCE));
        assert_eq!(high.due(secs(1) + PATIENCE), [ids.0]);
        assert!(!low.found(low.own, at(3), false, secs(1)), "itself");
    }

    #[test]
    fn what_fails_is_tried_less_and_less_until_it_comes_back() {
        let (mut low, high) = pair();
        let peer = high.own;
        let mut now = secs(10);
        low.found(peer, at(2), false, now);
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert_eq!(low.due(now), [peer]);
            low.failed(peer, now);
            let next = low.next_wake().expect("tried again");
            waits.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(!low.found(peer, at(3), false, now));
        assert_eq!((low.due(now), low.addresses(peer)), (vec![peer], vec![at(3), at(2)]));
        assert!(!low.gone(peer, &at(3)) && low.gone(peer, &at(2)));
        low.failed(peer, now);
        assert_eq!((low.next_wake(), low.knows(peer)), (None, false));
    }

    #[test]
    fn a_connection_that_does_not_last_is_a_failure() {
        let (mut low, high) = pair();
        let (peer, mut now) = (high.own, secs(10));
        assert!(low.found(peer, at(2), true, now));
        assert_eq!(low.due(now), [], "it is connected");
        for wait in [1, 2, 4] {
            low.disconnected(peer, now);
            assert_eq!(low.next_wake(), Some(now + secs(wait)));
            now += secs(wait);
            assert_eq!(low.due(now), [peer]);
            low.connected(peer, now);
        }
        low.disconnected(peer, now + STABLE);
        assert_eq!(low.next_wake(), Some(now + STABLE + MIN_WAIT));
    }

    #[test]
    fn the_number_is_bounded() {
        let mut keeper = NearbyKeeper::new(PeerId::random());
        for tab in 0..2 * MAX_NEARBY as u64 {
            keeper.found(PeerId::random(), at(tab), false, secs(0));
        }
        assert_eq!(keeper.peers.len(), MAX_NEARBY);
        let peer = *keeper.peers.keys().next().expect("one");
        for tab in 0..100 {
            keeper.found(peer, at(1000 + tab), false, secs(0));
        }
        assert_eq!(keeper.addresses(peer).len(), MAX_ADDRESSES_PER_PEER);
    }
}
