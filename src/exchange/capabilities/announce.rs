//! Whom to tell about ourselves, and when: each peer once when it is connected, and again when
//! something changed, neither at each change nor by polling. Pure.

use libp2p::PeerId;

use crate::boxmap::BoxMap;
use crate::platform::time::Duration;

/// Changes are gathered for this long before anybody is told.
pub const GATHER: Duration = Duration::from_secs(1);
/// A peer is told at most this often.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Attempts to tell a peer the same; after that it is told the next change.
pub const MAX_TRIES: u32 = 3;
/// Peers that are told at the same time.
pub const MAX_TELLING: usize = 16;
/// Peers that are told at all, the first ones that are connected.
pub const MAX_LISTENERS: usize = 256;

/// Who knows which version of what we have to say.
#[derive(Debug, Default)]
pub struct Announcements {
    version: u64,
    /// Nobody is told a change before.
    gathered: Duration,
    listeners: BoxMap<PeerId, Listener>,
    telling: usize,
}

#[derive(Debug, Default)]
struct Listener {
    /// What it was told last.
    version: Option<u64>,
    not_before: Duration,
    /// The version being told now.
    telling: Option<u64>,
    /// Attempts in a row that failed, of this version.
    failed: (u64, u32),
    /// Left while it was told.
    gone: bool,
}

impl Announcements {
    /// A peer that speaks the protocol is connected. Says nothing new of one that was.
    pub fn connected(&mut self, peer: PeerId) {
        if self.listeners.len() < MAX_LISTENERS || self.listeners.contains_key(&peer) {
            self.listeners.entry(peer).or_default().gone = false;
        }
    }

    pub fn disconnected(&mut self, peer: &PeerId) {
        match self.listeners.get_mut(peer) {
            // A new connection must be told anew, whatever comes of this attempt.
            Some(listener) if listener.telling.is_some() => {
                *listener =
                    Listener { telling: listener.telling, gone: true, ..Listener::default() };
            }
            _ => drop(self.listeners.remove(peer)),
        }
    }

    /// Those who are not `connected` any more have left.
    pub fn retain(&mut self, connected: &dyn Fn(&PeerId) -> bool) {
        let left = self.listeners.keys().filter(|peer| !connected(peer));
        left.copied().collect::<Vec<_>>().iter().for_each(|peer| self.disconnected(peer));
    }

    pub fn is_listening(&self, peer: &PeerId) -> bool {
        self.listeners.get(peer).is_some_and(|listener| !listener.gone)
    }

    /// There is something new to tell.
    pub fn changed(&mut self, now: Duration) {
        // From the first change on, so that a stream of changes does not put it off for ever.
        if self.gathered <= now {
            self.gathered = now + GATHER;
        }
        self.version += 1;
    }

    /// Who is to be told now. Each must be answered with [`told`](Self::told).
    pub fn due(&mut self, now: Duration) -> Vec<PeerId> {
        let mut due = Vec::new();
        for (peer, listener) in &mut self.listeners {
            if self.telling >= MAX_TELLING {
                break;
            }
            if listener.due(self.version, self.gathered).is_some_and(|at| at <= now) {
                listener.telling = Some(self.version);
                self.telling += 1;
                due.push(*peer);
            }
        }
        due
    }

    pub fn told(&mut self, peer: &PeerId, succeeded: bool, now: Duration) {
        let Some(listener) = self.listeners.get_mut(peer) else { return };
        let Some(version) = listener.telling.take() else { return };
        self.telling = self.telling.saturating_sub(1);
        if listener.gone {
            self.listeners.remove(peer);
            return;
        }
        listener.not_before = now + INTERVAL;
        if succeeded {
            listener.version = Some(version);
        } else {
            let (of, times) = listener.failed;
            listener.failed = (version, if of == version { times + 1 } else { 1 });
        }
    }

    /// When [`due`](Self::due) has somebody next, if nothing else happens.
    pub fn deadline(&self) -> Option<Duration> {
        if self.telling >= MAX_TELLING {
            return None;
        }
        let due = |listener: &Listener| listener.due(self.version, self.gathered);
        self.listeners.values().filter_map(due).min()
    }
}

impl Listener {
    fn due(&self, version: u64, gathered: Duration) -> Option<Duration> {
        let given_up = self.failed == (version, MAX_TRIES);
        if self.gone || self.telling.is_some() || self.version == Some(version) || given_up {
            return None;
        }
        // A new connection does not wait for changes to be gathered.
        Some(if self.version.is_some() { self.not_before.max(gathered) } else { self.not_before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_connection_is_told_once_and_changes_are_gathered() {
        let (mut out, peer) = (Announcements::default(), PeerId::random());
        out.connected(peer);
        assert_eq!(out.deadline(), Some(at(0)));
        assert_eq!(out.due(at(5)), [peer]);
        assert_eq!((out.due(at(5)), out.deadline()), (vec![], None));
        out.told(&peer, true, at(10));
        out.connected(peer);
        assert_eq!(out.deadline(), None);
        for ms in [100, 500, 900] {
            out.changed(at(ms));
        }
        assert_eq!(out.deadline(), Some(at(10_010)));
        assert_eq!(out.due(at(10_009)), []);
        assert_eq!(out.due(at(10_010)), [peer]);
        out.told(&peer, true, at(10_011));
        out.changed(at(30_000));
        assert_eq!(out.deadline(), Some(at(31_000)));
    }

    #[test]
    fn what_changes_while_it_is_told_is_told_afterwards() {
        let (mut out, peer) = (Announcements::default(), PeerId::random());
        out.connected(peer);
        assert_eq!(out.due(at(0)), [peer]);
        out.changed(at(1));
        out.told(&peer, true, at(2));
        assert_eq!(out.deadline(), Some(at(10_002)));
    }

    #[test]
    fn failures_are_tried_again_a_few_times_only() {
        let (mut out, peer) = (Announcements::default(), PeerId::random());
        out.connected(peer);
        for i in 0..u64::from(MAX_TRIES) {
            assert_eq!(out.due(at(i * 10_000)), [peer]);
            out.told(&peer, false, at(i * 10_000));
        }
        assert_eq!(out.deadline(), None);
        out.changed(at(100_000));
        assert_eq!(out.due(at(101_000)), [peer]);
    }

    #[test]
    fn a_peer_that_comes_back_is_told_again() {
        let (mut out, peer) = (Announcements::default(), PeerId::random());
        out.connected(peer);
        assert_eq!(out.due(at(0)), [peer]);
        out.disconnected(&peer);
        assert!(!out.is_listening(&peer));
        out.connected(peer);
        assert_eq!(out.deadline(), None, "the first attempt is under way");
        out.told(&peer, true, at(1));
        // It is not known which connection that went over: another one after the interval.
        out.disconnected(&peer);
        out.connected(peer);
        assert_eq!(out.due(at(2)), [peer]);
        out.disconnected(&peer);
        out.told(&peer, false, at(3));
        assert!(!out.is_listening(&peer) && out.deadline().is_none());
    }

    #[test]
    fn few_are_told_at_a_time_and_not_too_many_at_all() {
        let mut out = Announcements::default();
        let peers: Vec<PeerId> = (0..MAX_LISTENERS + 10).map(|_| PeerId::random()).collect();
        peers.iter().for_each(|peer| out.connected(*peer));
        let mut told = 0;
        loop {
            let due = out.due(at(0));
            if due.is_empty() {
                break;
            }
            assert!(due.len() <= MAX_TELLING && out.due(at(0)).is_empty());
            told += due.len();
            due.iter().for_each(|peer| out.told(peer, true, at(0)));
        }
        assert_eq!(told, MAX_LISTENERS);
    }
}
