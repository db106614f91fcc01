//! Whom to dial because a search or another peer said that they are on a topic. Pure.
//!
//! Such words are cheap, and those of other peers may be lies: so only some wait, fewer are dialled at a
//! time, none again soon, and what peers say is taken at a bounded rate, of each and of all together.

use std::collections::VecDeque;

use libp2p::{Multiaddr, PeerId};

use crate::boxmap::BoxMap;
use crate::messaging::topics::{
    exchange::{TELLER_FLOW, TELLERS_FLOW},
    rate::{Meter, Meters},
};
use crate::platform::time::Duration;

/// Dials under way at a time.
pub const MAX_DIALS: usize = 8;
/// Peers that wait to be dialled.
pub const MAX_WAITING: usize = 64;
/// After how long one that was dialled may be dialled again.
pub const REDIAL_AFTER: Duration = Duration::from_secs(60);
/// How long one waits at least: a relay may be about to name it, and then there is no need to dial.
pub const HOLD: Duration = Duration::from_millis(500);
/// Peers of whom it is remembered that they were dialled.
pub const MAX_REMEMBERED: usize = 512;
/// Tellers whose rates are remembered.
const MAX_TELLERS: usize = 256;

/// Somebody who is said to be on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    pub peer: PeerId,
    pub topic: String,
    /// Where, as far as it was said.
    pub addresses: Vec<Multiaddr>,
}

#[derive(Debug)]
pub struct Strangers {
    /// In the order in which they came, and when each may be dialled.
    waiting: VecDeque<(Duration, Stranger)>,
    /// Who was dialled, and when.
    dialled: BoxMap<PeerId, Duration>,
    dialling: usize,
    tellers: Meters,
    all: Meter,
}

impl Default for Strangers {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            dialled: BoxMap::new(),
            dialling: 0,
            tellers: Meters::new(TELLER_FLOW, MAX_TELLERS),
            all: Meter::new(TELLERS_FLOW, Duration::ZERO),
        }
    }
}

impl Strangers {
    /// A search of ours has found it.
    pub fn found(&mut self, stranger: Stranger, now: Duration) {
        if self.is_news(stranger.peer, now) {
            self.waiting.push_back((now + HOLD, stranger));
        }
    }

    /// `teller` says that it is there.
    pub fn told(&mut self, stranger: Stranger, teller: PeerId, now: Duration) {
        if !self.is_news(stranger.peer, now) {
            return;
        }
        if self.tellers.take(teller, 0, now) && self.all.take(TELLERS_FLOW, 0, now) {
            self.waiting.push_back((now + HOLD, stranger));
        }
    }

    /// The next to dial; `None`: nobody now. Those for whom `of_use` says no are forgotten. Each counts as
    /// being dialled until [`done`](Self::done) is called.
    pub fn next(&mut self, of_use: impl Fn(&Stranger) -> bool, now: Duration) -> Option<Stranger> {
        while self.next_wake().is_some_and(|at| at <= now)
            && let Some((_, stranger)) = self.waiting.pop_front()
        {
            if of_use(&stranger) {
                self.dialled.insert(stranger.peer, now);
                self.dialling += 1;
                return Some(stranger);
            }
        }
        None
    }

    pub fn next_wake(&self) -> Option<Duration> {
        let first = self.waiting.front().map(|(at, _)| *at);
        first.filter(|_| self.dialling < MAX_DIALS)
    }

    /// A dial has come to an end, whatever came of it.
    pub fn done(&mut self) {
        self.dialling = self.dialling.saturating_sub(1);
    }

    /// It may be worth another attempt with everybody.
    pub fn way_opened(&mut self) {
        self.dialled.clear();
    }

    fn is_news(&mut self, peer: PeerId, now: Duration) -> bool {
        if self.waiting.len() >= MAX_WAITING
            || self.waiting.iter().any(|(_, stranger)| stranger.peer == peer)
        {
            return false;
        }
        self.dialled.retain(|_, at| *at + REDIAL_AFTER > now);
        self.dialled.len() < MAX_REMEMBERED && !self.dialled.contains_key(&peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messaging::topics::rate::Rate;

    const NOW: Duration = Duration::from_secs(100);

    fn stranger() -> Stranger {
        Stranger { peer: PeerId::random(), topic: "t".into(), addresses: Vec::new() }
    }

    fn drain(strangers: &mut Strangers, now: Duration) -> usize {
        let mut dialled = 0;
        while strangers.next(|_| true, now + HOLD).is_some() {
            strangers.done();
            dialled += 1;
        }
        dialled
    }

    #[test]
    fn only_some_are_dialled_at_a_time_and_nobody_again_soon() {
        let mut strangers = Strangers::default();
        let first = stranger();
        strangers.found(first.clone(), NOW);
        strangers.found(first.clone(), NOW);
        for _ in 0..2 * MAX_WAITING {
            strangers.found(stranger(), NOW);
        }
        assert_eq!(strangers.waiting.len(), MAX_WAITING);
        assert_eq!(
            (strangers.next(|_| true, NOW), strangers.next_wake()),
            (None, Some(NOW + HOLD))
        );
        assert_eq!(strangers.next(|_| true, NOW + HOLD).as_ref(), Some(&first));
        let more = std::iter::from_fn(|| strangers.next(|_| true, NOW + HOLD)).count();
        assert_eq!((more, strangers.next_wake()), (MAX_DIALS - 1, None));
        (0..MAX_DIALS).for_each(|_| strangers.done());
        assert_eq!(drain(&mut strangers, NOW), MAX_WAITING - MAX_DIALS);
        strangers.found(first.clone(), NOW + REDIAL_AFTER / 2);
        assert_eq!(drain(&mut strangers, NOW), 0);
        strangers.found(first.clone(), NOW + HOLD + REDIAL_AFTER);
        assert_eq!(drain(&mut strangers, NOW + HOLD + REDIAL_AFTER), 1);
        strangers.way_opened();
        strangers.found(first, NOW + HOLD + REDIAL_AFTER);
        assert_eq!(drain(&mut strangers, NOW + HOLD + REDIAL_AFTER), 1);
    }

    #[test]
    fn who_is_of_no_use_any_more_is_passed_over() {
        let mut strangers = Strangers::default();
        let (known, new) = (stranger(), stranger());
        strangers.found(known.clone(), NOW);
        strangers.found(new.clone(), NOW);
        let next = strangers.next(|stranger| stranger.peer != known.peer, NOW + HOLD);
        assert_eq!((next, strangers.dialling), (Some(new), 1));
    }

    #[test]
    fn a_liar_costs_a_bounded_number_of_dials_however_long_it_lies() {
        let (mut strangers, liar) = (Strangers::default(), PeerId::random());
        let mut dialled = 0;
        for second in 0..60 {
            let now = NOW + Duration::from_secs(second);
            (0..100).for_each(|_| strangers.told(stranger(), liar, now));
            dialled += drain(&mut strangers, now);
        }
        let Rate { per_second, burst } = TELLER_FLOW.messages;
        assert_eq!(dialled, (burst + 59 * per_second) as usize);
        // Another one is believed meanwhile.
        strangers.told(stranger(), PeerId::random(), NOW + Duration::from_secs(59));
        assert_eq!(drain(&mut strangers, NOW + Duration::from_secs(59)), 1);
    }

    #[test]
    fn many_liars_together_are_bounded_too() {
        let mut strangers = Strangers::default();
        let mut dialled = 0;
        for second in 0..60 {
            let now = NOW + Duration::from_secs(second);
            (0..100).for_each(|_| strangers.told(stranger(), PeerId::random(), now));
            dialled += drain(&mut strangers, now);
            assert!(strangers.tellers.remembered() <= MAX_TELLERS);
        }
        let all = TELLERS_FLOW.messages;
        assert!(dialled <= (all.burst + 60 * all.per_second) as usize, "{dialled}");
        assert!(strangers.dialled.len() <= MAX_REMEMBERED);
    }
}
