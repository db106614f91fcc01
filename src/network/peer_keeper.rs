//! Keeps the peers that the app has named connected: decides when each is dialled again. Pure: events
//! and the time in, decisions out, jitter from a seed.
//!
//! Protected peers are what `addPeers` names (retried every 30 s, through peer routing). A
//! peer that went is dialled again soon and then ever more seldom, up to [`RETRY_INTERVAL`]; all that
//! wait are dialled at once when something says that the way may be open again.

use libp2p::PeerId;

use super::error::NetworkError;
use crate::boxmap::BoxMap;
use crate::platform::time::Duration;
use crate::random::Random;

/// Peers that are kept connected at once.
pub const MAX_KEPT_PEERS: usize = 64;
/// Of these, how many are dialled at a time.
pub const MAX_KEPT_DIALS: usize = 8;
/// The first pause before a peer is dialled again; doubles up to [`RETRY_INTERVAL`].
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause between two attempts, before jitter.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// How much of a pause is random: so that two peers that keep each other do not meet in the middle
/// every time, and the peers of a relay that restarts do not come all at once.
pub const JITTER: f64 = 0.4;
/// A connection that held this long makes the next pause the first again.
pub const STABLE_AFTER: Duration = Duration::from_secs(10);

/// The machine.
#[derive(Debug)]
pub struct PeerKeeper {
    peers: BoxMap<PeerId, Kept>,
    random: Random,
}

#[derive(Debug)]
struct Kept {
    phase: Phase,
    /// Attempts that failed, and connections that did not last, in a row.
    failures: u32,
    /// This attempt is made because a search had a result: if it fails, another search has nothing new.
    hurried: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connected { since: Duration },
    Dialing,
    Waiting { until: Duration },
}

impl PeerKeeper {
    pub fn new(seed: u64) -> Self {
        Self { peers: BoxMap::new(), random: Random(seed) }
    }

    /// Keeps `peers` from now on: all of them, or none if they are too many.
    pub fn add(
        &mut self,
        peers: &[PeerId],
        connected: impl Fn(PeerId) -> bool,
        now: Duration,
    ) -> Result<(), NetworkError> {
        let mut fresh: Vec<PeerId> = Vec::new();
        for peer in peers {
            if fresh.len() <= MAX_KEPT_PEERS && !self.contains(*peer) && !fresh.contains(peer) {
                fresh.push(*peer);
            }
        }
        if self.peers.len() + fresh.len() > MAX_KEPT_PEERS {
            let limit = MAX_KEPT_PEERS;
            return Err(NetworkError::TooMany { what: "peers kept connected", limit });
        }
        for peer in fresh {
            let phase = if connected(peer) {
                Phase::Connected { since: now }
            } else {
                Phase::Waiting { until: now }
            };
            self.peers.insert(peer, Kept { phase, failures: 0, hurried: false });
        }
        Ok(())
    }

    /// Whether it was kept.
    pub fn remove(&mut self, peer: PeerId) -> bool {
        self.peers.remove(&peer).is_some()
    }

    pub fn contains(&self, peer: PeerId) -> bool {
        self.peers.contains_key(&peer)
    }

    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.peers.keys().copied()
    }

    pub fn connected(&mut self, peer: PeerId, now: Duration) {
        let Some(kept) = self.peers.get_mut(&peer) else { return };
        if !matches!(kept.phase, Phase::Connected { .. }) {
            kept.phase = Phase::Connected { since: now };
        }
    }

    /// The last connection with it is gone.
    pub fn disconnected(&mut self, peer: PeerId, now: Duration) {
        let Some(kept) = self.peers.get_mut(&peer) else { return };
        let Phase::Connected { since } = kept.phase else { return };
        if now.saturating_sub(since) >= STABLE_AFTER {
            kept.failures = 0;
        }
        kept.hurried = false;
        kept.wait(now, &mut self.random);
    }

    /// An attempt came to nothing. Says whether to search for the peer.
    pub fn failed(&mut self, peer: PeerId, now: Duration) -> bool {
        let Some(kept) = self.peers.get_mut(&peer) else { return false };
        if kept.phase != Phase::Dialing {
            return false;
        }
        kept.wait(now, &mut self.random);
        !std::mem::take(&mut kept.hurried)
    }

    /// A search had a result: the peer is dialled at once, if it is not yet.
    pub fn found(&mut self, peer: PeerId, now: Duration) {
        let Some(kept) = self.peers.get_mut(&peer) else { return };
        if matches!(kept.phase, Phase::Waiting { .. }) {
            kept.phase = Phase::Waiting { until: now };
            kept.hurried = true;
        }
    }

    /// The way to all of them may be open again: nobody waits any longer. What failed before says
    /// nothing any more; the others may be on their way back, too, and a little behind.
    pub fn nudge(&mut self, now: Duration) {
        for kept in self.peers.values_mut() {
            if let Phase::Waiting { until } = &mut kept.phase {
                *until = now.min(*until);
                kept.failures = 0;
            }
        }
    }

    /// Whom to dial now. Each counts as being dialled until it is said to be connected or to have failed.
    pub fn due(&mut self, now: Duration) -> Vec<PeerId> {
        let mut due = Vec::new();
        let mut free = self.free();
        for (peer, kept) in self.peers.iter_mut() {
            if free == 0 {
                break;
            }
            if matches!(kept.phase, Phase::Waiting { until } if until <= now) {
                kept.phase = Phase::Dialing;
                due.push(*peer);
                free -= 1;
            }
        }
        due
    }

    pub fn next_wake(&self) -> Option<Duration> {
        if self.free() == 0 {
            return None;
        }
        let wake = |kept: &Kept| match kept.phase {
            Phase::Waiting { until } => Some(until),
            _ => None,
        };
        self.peers.values().filter_map(wake).min()
    }

    fn free(&self) -> usize {
        let dialing = self.peers.values().filter(|kept| kept.phase == Phase::Dialing).count();
        MAX_KEPT_DIALS.saturating_sub(dialing)
    }
}

impl Kept {
    fn wait(&mut self, now: Duration, random: &mut Random) {
        let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(16)).min(RETRY_INTERVAL);
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Waiting { until: now + random.jittered(pause, JITTER) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn keeper(peers: &[PeerId]) -> PeerKeeper {
        let mut keeper = PeerKeeper::new(7);
        keeper.add(peers, |_| false, at(0.0)).expect("room");
        keeper
    }

    fn random_peers(n: usize) -> Vec<PeerId> {
        (0..n).map(|_| PeerId::random()).collect()
    }

    /// How far an actual pause may be from the one meant.
    fn is_about(pause: Duration, meant: Duration) -> bool {
        let (low, high) = (1.0 - JITTER / 2.0, 1.0 + JITTER / 2.0);
        (meant.mul_f64(low)..=meant.mul_f64(high)).contains(&pause)
    }

    #[test]
    fn a_peer_is_dialled_at_once_and_then_ever_more_seldom() {
        let peer = PeerId::random();
        let mut keeper = keeper(&[peer]);
        let mut now = at(0.0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let wake = keeper.next_wake().expect("waits");
            if let Some(before) = wake.checked_sub(at(0.001)) {
                assert_eq!(keeper.due(before), []);
            }
            pauses.push(wake.saturating_sub(now));
            now = wake;
            assert_eq!(keeper.due(now), [peer]);
            assert_eq!((keeper.due(now), keeper.next_wake()), (vec![], None), "once at a time");
            assert!(keeper.failed(peer, now));
        }
        assert_eq!(pauses.remove(0), at(0.0));
        for (pause, meant) in pauses.into_iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]) {
            assert!(is_about(pause, at(meant)), "{pause:?} instead of {meant} s");
        }
    }

    #[test]
    fn a_connection_that_held_makes_the_next_pause_short() {
        let peer = PeerId::random();
        let mut keeper = keeper(&[peer]);
        for _ in 0..6 {
            let now = keeper.next_wake().expect("waits");
            keeper.due(now);
            keeper.failed(peer, now);
        }
        let up = keeper.next_wake().expect("waits");
        keeper.due(up);
        keeper.connected(peer, up);
        assert_eq!(keeper.next_wake(), None);
        // It is gone soon again: that counts as a failure.
        let down = up + at(1.0);
        keeper.disconnected(peer, down);
        let wake = keeper.next_wake().expect("waits");
        assert!(is_about(wake - down, RETRY_INTERVAL), "{:?}", wake - down);
        keeper.due(wake);
        keeper.connected(peer, wake);
        // A second connection does not make the first a young one.
        keeper.connected(peer, wake + STABLE_AFTER);
        let down = wake + STABLE_AFTER;
        keeper.disconnected(peer, down);
        assert!(is_about(keeper.next_wake().expect("waits") - down, FIRST_RETRY));
    }

    #[test]
    fn a_nudge_ends_the_waiting() {
        let peers = random_peers(3);
        let mut keeper = keeper(&peers);
        keeper.due(at(0.0));
        keeper.connected(peers[0], at(0.0));
        keeper.failed(peers[1], at(0.0));
        keeper.nudge(at(0.1));
        assert_eq!(keeper.due(at(0.1)), [peers[1]], "not the connected, nor the one being dialled");
        keeper.failed(peers[1], at(0.1));
        let wake = keeper.next_wake().expect("waits");
        assert!(is_about(wake - at(0.1), FIRST_RETRY), "{wake:?}");
    }

    #[test]
    fn a_search_is_made_once_for_an_attempt() {
        let peer = PeerId::random();
        let mut keeper = keeper(&[peer]);
        keeper.due(at(0.0));
        assert!(keeper.failed(peer, at(0.0)));
        keeper.found(peer, at(0.1));
        assert_eq!(keeper.due(at(0.1)), [peer]);
        keeper.found(peer, at(0.1));
        assert!(!keeper.failed(peer, at(0.2)), "what the search found was no use");
        let wake = keeper.next_wake().expect("waits");
        keeper.due(wake);
        assert!(keeper.failed(peer, wake), "the next attempt may search again");
        keeper.found(PeerId::random(), at(0.1));
    }

    #[test]
    fn only_some_are_dialled_at_a_time_and_all_in_turn() {
        let peers = random_peers(MAX_KEPT_PEERS);
        let mut keeper = keeper(&peers);
        let mut dialled = Vec::new();
        while dialled.len() < peers.len() {
            let due = keeper.due(at(0.0));
            assert!((1..=MAX_KEPT_DIALS).contains(&due.len()));
            for peer in due {
                keeper.connected(peer, at(0.0));
                dialled.push(peer);
            }
        }
        dialled.sort_unstable();
        let mut all = peers;
        all.sort_unstable();
        assert_eq!(dialled, all);
    }

    #[test]
    fn the_number_of_kept_peers_is_bounded() {
        let peers = random_peers(MAX_KEPT_PEERS - 1);
        let mut keeper = keeper(&peers);
        let [one, two] = [PeerId::random(), PeerId::random()];
        let refused = keeper.add(&[one, two], |_| false, at(0.0));
        assert!(matches!(refused, Err(NetworkError::TooMany { limit: MAX_KEPT_PEERS, .. })));
        assert!(!keeper.contains(one), "all or none");
        keeper.add(&[one, one, peers[0]], |_| true, at(0.0)).expect("one is new");
        assert_eq!(keeper.peers().count(), MAX_KEPT_PEERS);
        assert!(keeper.remove(one) && !keeper.remove(one));
        keeper.disconnected(one, at(1.0));
        assert!(!keeper.failed(one, at(1.0)));
        assert!(!keeper.contains(one));
    }

    #[test]
    fn who_is_connected_already_is_left_alone() {
        let peer = PeerId::random();
        let mut keeper = PeerKeeper::new(1);
        keeper.add(&[peer], |_| true, at(5.0)).expect("room");
        assert_eq!((keeper.due(at(5.0)), keeper.next_wake()), (vec![], None));
        // Naming it again changes nothing.
        keeper.add(&[peer], |_| false, at(6.0)).expect("room");
        assert_eq!(keeper.next_wake(), None);
    }
}
