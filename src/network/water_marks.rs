//! How many peers stay connected: above the high mark, those that matter least are closed until the
//! low mark is reached. Pure: events and the time in, decisions out.
//!
//! Never closed: protected peers, relays, and whoever has a stream open; the caller knows which these
//! are. Nor who has only just come: it may not have had the time to open one.

use libp2p::PeerId;

use crate::boxmap::BoxMap;
use crate::platform::time::Duration;

/// More connected peers than this are too many, unless told otherwise.
pub const HIGH_WATER: usize = 160;
/// How many stay then.
pub const LOW_WATER: usize = 128;
/// A peer is not closed before it was connected for this long.
pub const YOUTH: Duration = Duration::from_secs(30);

/// The shortest pause between two looks.
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// How many peers may be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    pub low: usize,
    pub high: usize,
    /// A peer is not closed before it was connected for this long.
    pub youth: Duration,
}

impl Default for Marks {
    fn default() -> Self {
        Self { low: LOW_WATER, high: HIGH_WATER, youth: YOUTH }
    }
}

/// How much a peer that may be closed is worth: the first is closed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// A circuit that carries little.
    Limited,
    Other,
}

#[derive(Debug, Default)]
pub struct WaterMarks {
    marks: Marks,
    /// Since when each peer is connected.
    peers: BoxMap<PeerId, Duration>,
    /// When there may be something to close.
    due: Option<Duration>,
}

impl WaterMarks {
    pub fn new(marks: Marks) -> Self {
        Self { marks, ..Self::default() }
    }

    pub fn connected(&mut self, peer: PeerId, now: Duration) {
        self.peers.entry(peer).or_insert(now);
        if self.peers.len() > self.marks.high && self.due.is_none() {
            self.due = Some(now);
        }
    }

    pub fn disconnected(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    pub fn next_wake(&self) -> Option<Duration> {
        self.due
    }

    /// Whom to close now; `worth` says `None` of those that must stay.
    pub fn surplus(
        &mut self,
        worth: impl Fn(PeerId) -> Option<Worth>,
        now: Duration,
    ) -> Vec<PeerId> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = None;
        if self.peers.len() <= self.marks.high {
            return Vec::new();
        }
        let mut closable: Vec<(Worth, Duration, PeerId)> = self
            .peers
            .iter()
            .filter(|(_, since)| now.saturating_sub(**since) >= self.marks.youth)
            .filter_map(|(peer, since)| Some((worth(*peer)?, *since, *peer)))
            .collect();
        closable.sort_unstable();
        closable.truncate(self.peers.len().saturating_sub(self.marks.low));
        if self.peers.len() - closable.len() > self.marks.high {
            // The young ones grow older, and streams end.
            self.due = Some(now + self.marks.youth.max(MIN_PAUSE));
        }
        closable.into_iter().map(|(_, _, peer)| peer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// `n` peers, one a second from 0 on.
    fn crowd(n: usize) -> (WaterMarks, Vec<PeerId>) {
        let mut marks = WaterMarks::default();
        let peers: Vec<PeerId> = (0..n).map(|_| PeerId::random()).collect();
        for (second, peer) in peers.iter().enumerate() {
            marks.connected(*peer, at(second as u64));
        }
        (marks, peers)
    }

    const LATER: Duration = Duration::from_secs(1000);

    #[test]
    fn up_to_the_high_mark_nobody_is_closed() {
        let (mut marks, _) = crowd(HIGH_WATER);
        assert_eq!(marks.next_wake(), None);
        assert!(marks.surplus(|_| Some(Worth::Other), LATER).is_empty());
    }

    #[test]
    fn above_it_the_oldest_go_until_the_low_mark() {
        let (mut marks, peers) = crowd(HIGH_WATER + 1);
        assert!(marks.next_wake().is_some());
        let limited = peers[HIGH_WATER];
        let worth = |peer| Some(if peer == limited { Worth::Limited } else { Worth::Other });
        let closed = marks.surplus(worth, LATER);
        assert_eq!(closed.len(), HIGH_WATER + 1 - LOW_WATER);
        assert_eq!((closed[0], closed[1], closed[2]), (limited, peers[0], peers[1]));
        assert_eq!(marks.next_wake(), None);
        for peer in closed {
            marks.disconnected(peer);
        }
        assert!(marks.surplus(|_| Some(Worth::Other), LATER).is_empty());
    }

    #[test]
    fn who_must_stay_stays_however_many_there_are() {
        let (mut marks, peers) = crowd(HIGH_WATER + 40);
        let kept = &peers[..HIGH_WATER + 30];
        let worth = |peer| (!kept.contains(&peer)).then_some(Worth::Other);
        let closed = marks.surplus(worth, LATER);
        assert_eq!(closed, peers[HIGH_WATER + 30..]);
        assert_eq!(marks.next_wake(), Some(LATER + YOUTH), "somebody's stream may end");
        assert!(marks.surplus(worth, LATER).is_empty(), "not before that");
    }

    #[test]
    fn who_has_just_come_is_given_time() {
        let mut marks = WaterMarks::default();
        for _ in 0..=HIGH_WATER {
            marks.connected(PeerId::random(), at(100));
        }
        assert!(marks.surplus(|_| Some(Worth::Other), at(100)).is_empty());
        let due = marks.next_wake().expect("they are too many");
        assert_eq!(due, at(100) + YOUTH);
        assert_eq!(marks.surplus(|_| Some(Worth::Other), due).len(), HIGH_WATER + 1 - LOW_WATER);
    }
}
