//! Who is on a topic: a pure machine fed by what neighbours say of themselves (gossipsub) and what
//! relays say of their other clients ([`super::roster`]).
//!
//! A peer is there while any source says so. It leaves at once when the last source says that it
//! left; when that source itself is lost (our connection with the relay broke), it is given
//! [`GRACE`] to be named again, so that a relay that restarts does not empty every room.

use libp2p::PeerId;

use super::{GRACE, MAX_MEMBERS, MAX_SOURCES};
use crate::boxmap::{BoxMap, BoxSet};
use crate::platform::time::Duration;

/// Who says that a peer is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The peer itself: it is our neighbour.
    Itself,
    Relay(PeerId),
}

impl Source {
    pub fn relay(&self) -> Option<PeerId> {
        match self {
            Self::Itself => None,
            Self::Relay(relay) => Some(*relay),
        }
    }
}

/// A peer came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub peer: PeerId,
    pub joined: bool,
}

#[derive(Debug, Default)]
pub struct Presence {
    members: BoxMap<PeerId, Member>,
    revision: u64,
}

#[derive(Debug, Default)]
struct Member {
    sources: Vec<Source>,
    /// When the last source was lost.
    lost: Option<Duration>,
    /// When any was.
    shaken: Option<Duration>,
}

impl Presence {
    pub fn seen(&mut self, peer: PeerId, source: Source) -> Option<Change> {
        self.revision += 1;
        if let Some(member) = self.members.get_mut(&peer) {
            member.lost = None;
            if source != Source::Itself {
                member.shaken = None;
            }
            if !member.sources.contains(&source) && member.sources.len() < MAX_SOURCES {
                member.sources.push(source);
            }
            return None;
        }
        if self.members.len() >= MAX_MEMBERS {
            return None;
        }
        self.members.insert(peer, Member { sources: vec![source], ..Member::default() });
        Some(Change { peer, joined: true })
    }

    /// The source says that the peer left.
    pub fn gone(&mut self, peer: PeerId, source: Source) -> Option<Change> {
        self.revision += 1;
        let member = self.members.get_mut(&peer)?;
        let before = member.sources.len();
        member.sources.retain(|known| *known != source);
        if !member.sources.is_empty() || before == 0 {
            return None;
        }
        self.members.remove(&peer);
        Some(Change { peer, joined: false })
    }

    /// The connection with the peer is gone. It may have gone with a relay between, and then it leaves only
    /// if it is not named again in time.
    pub fn parted(&mut self, peer: PeerId, now: Duration) -> Option<Change> {
        let member = self.members.get_mut(&peer)?;
        let with_relay = member.shaken.filter(|at| now < *at + GRACE);
        if with_relay.is_none() || member.sources != [Source::Itself] {
            return self.gone(peer, Source::Itself);
        }
        member.sources.clear();
        member.lost = with_relay;
        None
    }

    /// The source names all that it knows of.
    pub fn all(&mut self, named: &[PeerId], source: Source) -> Vec<Change> {
        let listed: BoxSet<PeerId> = named.iter().copied().collect();
        let absent = |(peer, member): (&PeerId, &Member)| {
            (member.sources.contains(&source) && !listed.contains(peer)).then_some(*peer)
        };
        let absent: Vec<PeerId> = self.members.iter().filter_map(absent).collect();
        let left = absent.into_iter().filter_map(|peer| self.gone(peer, source));
        let mut changes: Vec<Change> = left.collect();
        changes.extend(named.iter().filter_map(|peer| self.seen(*peer, source)));
        changes
    }

    /// The source can say no more.
    pub fn lost(&mut self, source: Source, now: Duration) {
        self.revision += 1;
        for member in self.members.values_mut() {
            let before = member.sources.len();
            member.sources.retain(|known| *known != source);
            if member.sources.len() < before {
                member.shaken = Some(now);
            }
            if before > 0 && member.sources.is_empty() {
                member.lost = Some(now);
            }
        }
    }

    /// Those who were not named again in time.
    pub fn tick(&mut self, now: Duration) -> Vec<Change> {
        self.revision += 1;
        let overdue = |(peer, member): (&PeerId, &Member)| {
            member.lost.is_some_and(|lost| lost + GRACE <= now).then_some(*peer)
        };
        let overdue: Vec<PeerId> = self.members.iter().filter_map(overdue).collect();
        let left = |peer| {
            self.members.remove(&peer);
            Change { peer, joined: false }
        };
        overdue.into_iter().map(left).collect()
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn next_wake(&self) -> Option<Duration> {
        self.members.values().filter_map(|member| member.lost).min().map(|lost| lost + GRACE)
    }

    pub fn members(&self) -> impl Iterator<Item = PeerId> {
        self.members.keys().copied()
    }

    pub fn contains(&self, peer: PeerId) -> bool {
        self.members.contains_key(&peer)
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Who says so of each, in the order of the ids.
    pub fn sources(&self) -> impl Iterator<Item = (PeerId, &[Source])> {
        self.members.iter().map(|(peer, member)| (*peer, &member.sources[..]))
    }

    /// Who says that this one is there.
    pub fn sources_of(&self, peer: PeerId) -> &[Source] {
        self.members.get(&peer).map(|member| &member.sources[..]).unwrap_or_default()
    }

    /// The relays among them.
    pub fn relays_of(&self, peer: PeerId) -> impl Iterator<Item = PeerId> {
        self.sources_of(peer).iter().filter_map(Source::relay)
    }

    /// Another number when anything has changed.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers<const N: usize>() -> [PeerId; N] {
        [(); N].map(|()| PeerId::random())
    }

    fn joined(peer: PeerId) -> Option<Change> {
        Some(Change { peer, joined: true })
    }

    fn left(peer: PeerId) -> Option<Change> {
        Some(Change { peer, joined: false })
    }

    const AT: Duration = Duration::from_secs(100);

    #[test]
    fn a_peer_is_there_while_anybody_says_so() {
        let [peer, one, two] = peers();
        let (one, two) = (Source::Relay(one), Source::Relay(two));
        let mut presence = Presence::default();
        assert_eq!(presence.gone(peer, one), None);
        assert_eq!(presence.seen(peer, one), joined(peer));
        assert_eq!(presence.seen(peer, one), None);
        assert_eq!(presence.seen(peer, two), None);
        assert_eq!(presence.seen(peer, Source::Itself), None);
        assert_eq!(presence.gone(peer, one), None);
        assert_eq!(presence.gone(peer, Source::Itself), None);
        assert_eq!(presence.gone(peer, one), None, "it said so before");
        assert_eq!(presence.gone(peer, two), left(peer));
        assert_eq!(presence.members().count(), 0);
    }

    #[test]
    fn a_relay_that_comes_back_in_time_is_not_noticed() {
        let [stays, goes, relay] = peers();
        let source = Source::Relay(relay);
        let mut presence = Presence::default();
        let all = presence.all(&[stays, goes], source);
        assert_eq!(all, [stays, goes].map(|peer| Change { peer, joined: true }));
        presence.lost(source, AT);
        assert_eq!(presence.next_wake(), Some(AT + GRACE));
        assert_eq!(presence.tick(AT + GRACE / 2), []);
        assert_eq!(presence.gone(goes, source), None, "it says nothing any more");
        assert_eq!(presence.all(&[stays], source), []);
        assert_eq!(presence.tick(AT + GRACE), left(goes).into_iter().collect::<Vec<_>>());
        assert_eq!(presence.next_wake(), None);
        assert_eq!(presence.members().collect::<Vec<_>>(), [stays]);
        // The next list is the whole truth.
        assert_eq!(presence.all(&[], source), left(stays).into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_neighbour_that_goes_with_the_relay_between_is_given_time() {
        let [peer, relay] = peers();
        let source = Source::Relay(relay);
        for circuit_first in [false, true] {
            let mut presence = Presence::default();
            presence.seen(peer, source);
            presence.seen(peer, Source::Itself);
            if circuit_first {
                assert_eq!(presence.parted(peer, AT), None);
                presence.lost(source, AT);
            } else {
                presence.lost(source, AT);
                assert_eq!(presence.parted(peer, AT + GRACE / 2), None);
            }
            // The relay is back, and does not know yet that the peer will be, too.
            assert_eq!(presence.all(&[], source), []);
            assert_eq!(presence.tick(AT + GRACE / 2), []);
            assert_eq!(presence.seen(peer, source), None);
            assert_eq!(presence.tick(AT + GRACE), []);
            // Named again, it goes like any other.
            presence.seen(peer, Source::Itself);
            assert_eq!(presence.parted(peer, AT), None);
            assert_eq!(presence.gone(peer, source), left(peer));
        }
        let mut presence = Presence::default();
        presence.seen(peer, Source::Itself);
        assert_eq!(presence.parted(peer, AT), left(peer), "no relay has to do with it");
        // Not named in time, it has left; and long after a relay was lost it goes at once.
        presence.seen(peer, source);
        presence.seen(peer, Source::Itself);
        presence.lost(source, AT);
        assert_eq!(presence.parted(peer, AT), None);
        assert_eq!(presence.tick(AT + GRACE), left(peer).into_iter().collect::<Vec<_>>());
        presence.seen(peer, source);
        presence.seen(peer, Source::Itself);
        presence.lost(source, AT);
        assert_eq!(presence.parted(peer, AT + GRACE), left(peer));
    }

    #[test]
    fn the_numbers_are_bounded() {
        let mut presence = Presence::default();
        let crowd: Vec<PeerId> = (0..MAX_MEMBERS + 10).map(|_| PeerId::random()).collect();
        assert_eq!(presence.all(&crowd, Source::Itself).len(), MAX_MEMBERS);
        for _ in 0..2 * MAX_SOURCES {
            assert_eq!(presence.seen(crowd[0], Source::Relay(PeerId::random())), None);
        }
        let member = presence.members.get(&crowd[0]).expect("there");
        assert_eq!(member.sources.len(), MAX_SOURCES);
    }

    /// Whatever happens in whatever order: what the changes say and who is there agree.
    #[test]
    fn changes_and_members_agree() {
        let crowd: [PeerId; 6] = peers();
        let relays: [PeerId; 2] = peers();
        for seed in 1..200_u64 {
            let (mut random, mut now) = (seed, AT);
            let mut next = |below: u64| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
                (random >> 33) % below
            };
            let (mut presence, mut told) = (Presence::default(), BoxSet::new());
            for _ in 0..300 {
                let peer = crowd[next(6) as usize];
                let source = match next(3) {
                    0 => Source::Itself,
                    n => Source::Relay(relays[n as usize - 1]),
                };
                let changes = match next(7) {
                    6 => presence.parted(peer, now).into_iter().collect(),
                    0 | 1 => presence.seen(peer, source).into_iter().collect(),
                    2 => presence.gone(peer, source).into_iter().collect(),
                    3 => presence.all(&crowd[..next(7) as usize], source),
                    4 => {
                        presence.lost(source, now);
                        Vec::new()
                    }
                    _ => {
                        now += Duration::from_secs(next(20));
                        presence.tick(now)
                    }
                };
                for change in changes {
                    let news = match change.joined {
                        true => told.insert(change.peer),
                        false => told.remove(&change.peer),
                    };
                    assert!(news, "seed {seed}: {change:?} twice");
                }
                assert!(presence.members().eq(told.iter().copied()), "seed {seed}");
            }
            for source in [Source::Itself, Source::Relay(relays[0]), Source::Relay(relays[1])] {
                presence.lost(source, now);
            }
            presence.tick(now + GRACE);
            assert_eq!(presence.members().count(), 0, "seed {seed}");
        }
    }
}
