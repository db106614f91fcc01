//! Whether a message that came is taken: what its author and the neighbour who brought it may send
//! ([`super::rate`]). Pure.

use libp2p::PeerId;

use super::{
    AUTHOR_FLOW, MAX_AUTHORS, MAX_EXCESS, MAX_NEIGHBOURS, NEIGHBOUR_FLOW, PUNISHMENT,
    rate::{Flow, Meter, Meters, make_room},
};
use crate::boxmap::BoxMap;
use crate::platform::time::Duration;

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Take,
    /// Too much came; this one is dropped.
    Drop,
    /// It is dropped, and nothing more is to be heard of the neighbour until it is among the
    /// [`pardoned`](Judge::pardoned).
    Punish,
}

#[derive(Debug)]
pub struct Judge {
    authors: Meters,
    neighbours: BoxMap<PeerId, Neighbour>,
    punished: BoxMap<PeerId, Duration>,
}

#[derive(Debug)]
struct Neighbour {
    meter: Meter,
    /// Messages beyond its rate in a row.
    excess: u32,
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            authors: Meters::new(AUTHOR_FLOW, MAX_AUTHORS),
            neighbours: BoxMap::new(),
            punished: BoxMap::new(),
        }
    }
}

impl Judge {
    /// `relay`: the neighbour is a relay of ours, who brings what many wrote.
    pub fn judge(
        &mut self,
        author: PeerId,
        neighbour: PeerId,
        relay: bool,
        bytes: usize,
        now: Duration,
    ) -> Verdict {
        if !relay && let Some(verdict) = self.judge_neighbour(neighbour, bytes, now) {
            return verdict;
        }
        match self.authors.take(author, bytes, now) {
            true => Verdict::Take,
            false => Verdict::Drop,
        }
    }

    fn judge_neighbour(&mut self, peer: PeerId, bytes: usize, now: Duration) -> Option<Verdict> {
        const FLOW: Flow = NEIGHBOUR_FLOW;
        make_room(&mut self.neighbours, MAX_NEIGHBOURS, |known| known.meter.is_full(FLOW, now));
        let new = || Neighbour { meter: Meter::new(FLOW, now), excess: 0 };
        let known = self.neighbours.entry(peer).or_insert_with(new);
        if known.meter.take(FLOW, bytes, now) {
            known.excess = known.excess.saturating_sub(1);
            return None;
        }
        known.excess += 1;
        if known.excess < MAX_EXCESS {
            return Some(Verdict::Drop);
        }
        known.excess = 0;
        if self.punished.len() >= MAX_NEIGHBOURS {
            return Some(Verdict::Drop);
        }
        self.punished.insert(peer, now + PUNISHMENT);
        Some(Verdict::Punish)
    }

    /// Those who are to be heard again.
    pub fn pardoned(&mut self, now: Duration) -> Vec<PeerId> {
        let over = |(peer, until): (&PeerId, &Duration)| (*until <= now).then_some(*peer);
        let over: Vec<PeerId> = self.punished.iter().filter_map(over).collect();
        for peer in &over {
            self.punished.remove(peer);
        }
        over
    }

    /// When [`pardoned`](Self::pardoned) has something to say.
    pub fn next_wake(&self) -> Option<Duration> {
        self.punished.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(7);

    #[test]
    fn one_author_who_floods_through_a_relay_is_cut_and_others_are_not() {
        let (mut judge, relay) = (Judge::default(), PeerId::random());
        let [flooder, other] = [PeerId::random(), PeerId::random()];
        let burst = AUTHOR_FLOW.messages.burst as usize;
        let taken = (0..2 * burst).filter(|n| {
            let verdict = judge.judge(flooder, relay, true, 10, NOW);
            assert_eq!(verdict == Verdict::Take, *n < burst);
            verdict == Verdict::Take
        });
        assert_eq!(taken.count(), burst);
        assert_eq!(judge.judge(other, relay, true, 10, NOW), Verdict::Take);
        let later = NOW + Duration::from_secs(1);
        assert_eq!(judge.judge(flooder, relay, true, 10, later), Verdict::Take);
        assert!(judge.neighbours.is_empty() && judge.punished.is_empty());
    }

    #[test]
    fn a_neighbour_who_floods_is_not_heard_for_a_while_whatever_names_it_uses() {
        let (mut judge, neighbour) = (Judge::default(), PeerId::random());
        let mut verdicts = (0..).map(|_| judge.judge(PeerId::random(), neighbour, false, 10, NOW));
        let burst = NEIGHBOUR_FLOW.messages.burst as usize;
        assert_eq!(verdicts.by_ref().take_while(|v| *v == Verdict::Take).count(), burst);
        let dropped = verdicts.by_ref().take_while(|v| *v == Verdict::Drop).count();
        assert_eq!(dropped, MAX_EXCESS as usize - 2);
        drop(verdicts);
        assert!(judge.authors.remembered() <= MAX_AUTHORS);
        assert_eq!(judge.next_wake(), Some(NOW + PUNISHMENT));
        assert_eq!(judge.pardoned(NOW + PUNISHMENT / 2), []);
        assert_eq!(judge.pardoned(NOW + PUNISHMENT), [neighbour]);
        assert_eq!((judge.next_wake(), judge.pardoned(NOW * 9)), (None, vec![]));
    }
}
