//! Which tabs are there, by the locks that are held, and what a tab makes of the notices that it hears.
//! Pure.
//!
//! Anybody of the origin may say anything here. So a notice is believed only as far as it does no harm:
//! one of a tab that is not known is a reason to look who is there, now and then; and none tells that a
//! tab is gone.

use std::collections::VecDeque;

use libp2p::PeerId;

use super::{
    MAX_TABS, NOTICES, Tab, Token,
    notice::{Notice, What},
};
use crate::boxmap::BoxMap;
use crate::platform::time::Duration;

/// Looks right after one another, for tabs that come at the same time.
const LOOKS_AT_ONCE: u32 = 4;
/// After these, before each further one.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Connections of tabs that are not known yet, until the look is over.
const MAX_EARLY: usize = 16;
/// Longer names of locks are not of tabs.
const MAX_LOCK_NAME: usize = 160;
/// Locks that are looked at, of any name: apps have some too.
pub const MAX_LOCKS: u32 = 4096;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Post(Notice),
    /// Tell [`Roll::see`] after a while which locks are held.
    Look(Duration),
    /// Tell [`Roll::gone`] when this lock is free.
    Watch(Tab, String),
    Found(Tab, PeerId),
    /// Its connections are broken off.
    Gone(Tab, PeerId),
    /// Take up a connection.
    Accept(Tab, Token),
}

#[derive(Debug)]
pub struct Roll {
    tab: Tab,
    peer: PeerId,
    others: BoxMap<Tab, PeerId>,
    /// Looks under way or right after one another.
    looks: u32,
    /// There was a reason to look since the last look began.
    again: bool,
    /// Connections to take up if those who ask for it turn out to be there.
    early: VecDeque<(Tab, Token)>,
}

impl Roll {
    /// Of this tab, whose peer is `peer`.
    pub fn new(tab: Tab, peer: PeerId) -> Self {
        let (others, early) = (BoxMap::new(), VecDeque::new());
        Self { tab, peer, others, looks: 0, again: false, early }
    }

    pub fn tab(&self) -> Tab {
        self.tab
    }

    /// The lock that this tab holds.
    pub fn lock_name(&self) -> String {
        lock_name(self.tab, self.peer)
    }

    /// Whether this tab is there and says that it is this peer.
    pub fn knows(&self, tab: Tab, peer: PeerId) -> bool {
        self.others.get(&tab) == Some(&peer)
    }

    /// Tells the others that this tab is there, and looks who else is.
    pub fn announce(&mut self) -> Vec<Step> {
        let hello = Step::Post(Notice { from: self.tab, what: What::Hello });
        [hello].into_iter().chain(self.look()).collect()
    }

    /// Asks this tab to take up a connection.
    pub fn open(&self, to: Tab, token: Token) -> Notice {
        Notice { from: self.tab, what: What::Open { to, token } }
    }

    pub fn hear(&mut self, notice: &Notice) -> Option<Step> {
        let Notice { from, what } = *notice;
        let known = self.others.contains_key(&from);
        match what {
            What::Hello if !known && from != self.tab => self.look(),
            What::Open { to, token } if to == self.tab && known => Some(Step::Accept(from, token)),
            What::Open { to, token } if to == self.tab && from != self.tab => {
                if self.early.len() >= MAX_EARLY {
                    self.early.pop_front();
                }
                self.early.push_back((from, token));
                self.look()
            }
            _ => None,
        }
    }

    /// These locks are held.
    pub fn see<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Vec<Step> {
        let mut steps = Vec::new();
        for name in names {
            let Some((tab, peer)) = parts(name).filter(|(_, peer)| *peer != self.peer) else {
                continue;
            };
            if !self.others.contains_key(&tab) && self.others.len() < MAX_TABS {
                self.others.insert(tab, peer);
                steps.extend([Step::Watch(tab, name.to_owned()), Step::Found(tab, peer)]);
            }
        }
        // Who came after the look began may not be among them.
        let again = std::mem::take(&mut self.again);
        self.early.retain(|(from, token)| {
            let known = self.others.contains_key(from);
            steps.extend(known.then_some(Step::Accept(*from, *token)));
            !known && again
        });
        if again {
            let wait = if self.looks < LOOKS_AT_ONCE { Duration::ZERO } else { LOOK_INTERVAL };
            self.looks = self.looks.saturating_add(1);
            steps.push(Step::Look(wait));
        } else {
            self.looks = 0;
        }
        steps
    }

    /// The lock of the tab is free. There may be room for another now.
    pub fn gone(&mut self, tab: Tab) -> Vec<Step> {
        let full = self.others.len() >= MAX_TABS;
        let Some(peer) = self.others.remove(&tab) else { return Vec::new() };
        let look = if full { self.look() } else { None };
        [Step::Gone(tab, peer)].into_iter().chain(look).collect()
    }

    /// Forgets all.
    pub fn clear(&mut self) -> Vec<Step> {
        let others = std::mem::take(&mut self.others);
        others.into_iter().map(|(tab, peer)| Step::Gone(tab, peer)).collect()
    }

    fn look(&mut self) -> Option<Step> {
        if self.looks > 0 {
            self.again = true;
            return None;
        }
        self.looks = 1;
        Some(Step::Look(Duration::ZERO))
    }
}

fn lock_name(tab: Tab, peer: PeerId) -> String {
    format!("{NOTICES}/{tab:016x}/{peer}")
}

fn parts(name: &str) -> Option<(Tab, PeerId)> {
    let (tab, peer) = name.strip_prefix(NOTICES)?.strip_prefix('/')?.split_once('/')?;
    let tab = Tab::from_str_radix(tab, 16).ok()?;
    let peer = if name.len() <= MAX_LOCK_NAME { peer.parse().ok()? } else { return None };
    // Each tab has one lock.
    (lock_name(tab, peer) == name).then_some((tab, peer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const HELLO: What = What::Hello;

    fn found(steps: &[Step]) -> Vec<Tab> {
        let tabs = steps.iter().filter_map(|step| match step {
            Step::Found(tab, _) => Some(*tab),
            _ => None,
        });
        tabs.collect()
    }

    fn see(roll: &mut Roll, names: &[String]) -> Vec<Step> {
        roll.see(names.iter().map(String::as_str))
    }

    #[test]
    fn tabs_find_each_other_whoever_comes_first() {
        let mut rolls: Vec<Roll> = (1..=3).map(|tab| Roll::new(tab, PeerId::random())).collect();
        let mut held = Vec::new();
        for at in 0..rolls.len() {
            held.push(rolls[at].lock_name());
            let said = rolls[at].announce();
            let [Step::Post(hello), Step::Look(Duration::ZERO)] = said[..] else {
                panic!("{said:?}")
            };
            assert_eq!(found(&see(&mut rolls[at], &held)).len(), at, "those before");
            for earlier in &mut rolls[..at] {
                assert_eq!(earlier.hear(&hello), Some(Step::Look(Duration::ZERO)));
                assert_eq!(found(&see(earlier, &held)), [at as Tab + 1], "the new one");
                assert_eq!(earlier.hear(&hello), None, "no news");
            }
        }
        let peers: Vec<PeerId> = rolls.iter().map(|roll| roll.peer).collect();
        assert!(rolls[0].knows(2, peers[1]) && !rolls[0].knows(2, peers[2]));
        assert_eq!(rolls[0].gone(2), [Step::Gone(2, peers[1])]);
        assert_eq!(rolls[0].gone(2), []);
        assert!(!rolls[0].knows(2, peers[1]));
        assert_eq!(rolls[1].clear().len(), 2);
    }

    #[test]
    fn connections_are_taken_up_of_tabs_that_are_there() {
        let [mut roll, theirs] = [1, 2].map(|tab| Roll::new(tab, PeerId::random()));
        let (open, accept) = (theirs.open(1, [3; 16]), Step::Accept(2, [3; 16]));
        // It is quicker than the look.
        assert_eq!(roll.hear(&open), Some(Step::Look(Duration::ZERO)));
        let steps = see(&mut roll, &[theirs.lock_name()]);
        assert_eq!((found(&steps), steps.last()), (vec![2], Some(&accept)));
        assert_eq!(roll.hear(&open), Some(accept));
        assert_eq!(roll.hear(&theirs.open(9, [3; 16])), None, "for another");
        assert_eq!(roll.hear(&roll.open(1, [3; 16])), None, "its own number");

        roll.gone(2);
        for n in 0..100 {
            roll.hear(&theirs.open(1, [n; 16]));
        }
        assert_eq!(roll.early.len(), MAX_EARLY);
        see(&mut roll, &[]);
        see(&mut roll, &[]);
        assert_eq!((roll.early.len(), roll.looks), (0, 0), "nobody is there");
    }

    #[test]
    fn a_flood_makes_it_look_now_and_then_and_hides_nobody() {
        let mut random = Random(11);
        let mut roll = Roll::new(1, PeerId::random());
        let real = Roll::new(2, PeerId::random());
        let mut flood = |roll: &mut Roll| {
            let hellos = (0..1000).map(|_| Notice { from: random.next(), what: HELLO });
            hellos.filter_map(|hello| roll.hear(&hello)).collect::<Vec<_>>()
        };
        assert_eq!(flood(&mut roll), [Step::Look(Duration::ZERO)]);
        for at in 1..20 {
            let wait = if at < LOOKS_AT_ONCE { Duration::ZERO } else { LOOK_INTERVAL };
            assert_eq!(see(&mut roll, &[]), [Step::Look(wait)], "what came after that look began");
            assert_eq!(flood(&mut roll), []);
        }
        let steps = see(&mut roll, &[real.lock_name()]);
        assert_eq!((found(&steps), steps.last()), (vec![2], Some(&Step::Look(LOOK_INTERVAL))));
        assert_eq!(see(&mut roll, &[real.lock_name()]), [], "and then it is over");
        assert_eq!(roll.hear(&Notice { from: 1, what: HELLO }), None, "its own number");
    }

    #[test]
    fn locks_of_others_are_nothing_and_tabs_are_bounded() {
        let mut roll = Roll::new(1, PeerId::random());
        let peer = PeerId::random();
        let strange = [
            String::new(),
            "app/lock".into(),
            NOTICES.into(),
            format!("{NOTICES}/"),
            roll.lock_name(),
            lock_name(9, roll.peer),
            lock_name(9, peer) + "/",
            format!("{NOTICES}/9/{peer}"),
            format!("{NOTICES}/{:016X}/{peer}", 0xab),
            format!("{NOTICES}/{:016x}/nobody", 9),
            format!("{NOTICES}/{:016x}/{}", 9, "1".repeat(10_000)),
            format!("tabpeer-{peer}"),
        ];
        assert_eq!(see(&mut roll, &strange), []);
        let many: Vec<String> = (10..100).map(|tab| lock_name(tab, PeerId::random())).collect();
        assert_eq!(found(&see(&mut roll, &many)).len(), MAX_TABS);
        // With the first that is gone there is room, and it looks for who else there is.
        let steps = roll.gone(10);
        assert!(matches!(steps[..], [Step::Gone(10, _), Step::Look(_)]), "{steps:?}");
        assert_eq!(found(&see(&mut roll, &many[1..])).len(), 1);
    }
}
