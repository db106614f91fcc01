//! Who is asked for what.

use std::collections::VecDeque;

use libp2p::PeerId;

use super::{Action, Client, Hash, SessionId, WantKind, entry, session::Session};
use crate::platform::time::Duration;

/// Blocks at the start of a session that all peers hear of.
const EXPLORED: u64 = 2;
/// After these, one block in so many.
const EXPLORE_EVERY: u64 = 64;
/// Queued blocks that are looked at for one that can be asked for now, when those before it cannot.
const LOOK_AHEAD: usize = 64;

/// A session that asks for what it has queued.
struct Turn {
    id: SessionId,
    /// What there is no room for.
    later: Vec<Hash>,
}

impl Client {
    /// Asks for what is queued, as far as there is room; the sessions take turns.
    pub(super) fn assign(&mut self, now: Duration) {
        let waiting = self.sessions.iter().filter(|(_, session)| !session.queue.is_empty());
        let mut turns: VecDeque<Turn> =
            waiting.map(|(id, _)| Turn { id: *id, later: Vec::new() }).collect();
        let first = turns.partition_point(|turn| Some(turn.id) <= self.served);
        turns.rotate_left(first % turns.len().max(1));
        let mut exhausted = Vec::new();
        while let Some(mut turn) = turns.pop_front() {
            if self.ask_next(&mut turn, &mut exhausted, now) {
                turns.push_back(turn);
            } else if let Some(session) = self.sessions.get_mut(&turn.id) {
                turn.later.into_iter().rev().for_each(|hash| session.queue.push_front(hash));
            }
        }
        self.exhausted(&exhausted);
        self.take_over(now);
    }

    /// Says whether there may be more to ask for.
    fn ask_next(&mut self, turn: &mut Turn, exhausted: &mut Vec<Hash>, now: Duration) -> bool {
        let session = self.sessions.get_mut(&turn.id);
        let Some(hash) = session.and_then(|session| session.queue.pop_front()) else {
            return false;
        };
        match self.ask(hash, now) {
            Asked::Yes => self.served = Some(turn.id),
            Asked::Known => {}
            Asked::NoRoom { for_any } => {
                turn.later.push(hash);
                return !for_any && turn.later.len() < LOOK_AHEAD;
            }
            Asked::Nobody => exhausted.push(hash),
        }
        true
    }

    /// Finds a peer for one block.
    fn ask(&mut self, hash: Hash, now: Duration) -> Asked {
        let Some(want) = self.wants.get(&hash).filter(|w| w.queued && w.owed_by.is_none()) else {
            return Asked::Known;
        };
        let (mut best, mut full) = (None::<Rank>, None::<f64>);
        let sessions = want.waiters.iter().filter_map(|waiter| self.sessions.get(&waiter.session));
        for session in sessions.clone() {
            for (peer, role) in &session.peers {
                let offers = want.offered.contains(peer);
                let Some(known) = self.peers.get(peer).filter(|known| known.usable()) else {
                    continue;
                };
                if !(role.holder || offers || role.provider.is_some())
                    || !session.admits(peer, self.config.max_declined)
                    || want.is_declined_by(peer, now)
                {
                    continue;
                }
                let size = session.block_size;
                let finish = known.finish(size, 1);
                if !known.has_room(size, self.config.window, self.config.max_asked) {
                    full = Some(full.map_or(finish, |full| full.min(finish)));
                    continue;
                }
                let score = role.provider.unwrap_or_default();
                let rank = Rank { offers, finish, score, peer: *peer };
                if best.as_ref().is_none_or(|best| rank.is_before(best)) {
                    best = Some(rank);
                }
            }
        }
        // A slow peer with room is no help when a fast one without is sooner done.
        let best = best.filter(|best| full.is_none_or(|full| best.finish <= full));
        let number = sessions.map(|session| session.asked).min().unwrap_or_default();
        match best {
            Some(Rank { peer, .. }) => {
                self.tell(peer, hash, WantKind::Block, now);
                if let Some(want) = self.wants.get_mut(&hash) {
                    (want.owed_by, want.queued) = (Some(peer), false);
                    for waiter in &want.waiters {
                        if let Some(session) = self.sessions.get_mut(&waiter.session) {
                            session.asked += 1;
                        }
                    }
                }
                if number < EXPLORED || number.is_multiple_of(EXPLORE_EVERY) {
                    self.announce(hash, u32::MAX, now);
                }
                Asked::Yes
            }
            None if full.is_some() => Asked::NoRoom { for_any: want.declined.is_empty() },
            None => {
                self.announce(hash, self.config.max_declined, now);
                let waits = self.awaits_answer(&hash) || self.ask_holders(hash, now);
                if let Some(want) = self.wants.get_mut(&hash) {
                    want.queued = false;
                }
                if waits { Asked::Yes } else { Asked::Nobody }
            }
        }
    }

    /// Tells every other peer that may be asked that the block is wanted, unless it has declined as
    /// many as that in a row.
    fn announce(&mut self, hash: Hash, max_declined: u32, now: Duration) {
        let Some(want) = self.wants.get(&hash) else { return };
        let sessions = want.waiters.iter().filter_map(|waiter| self.sessions.get(&waiter.session));
        let sessions: Vec<_> = sessions.collect();
        let open = |peer: &PeerId| {
            !want.offered.contains(peer)
                && !want.is_declined_by(peer, now)
                && sessions.iter().any(|session| {
                    session.admits(peer, max_declined)
                        && !session.peers.get(peer).is_some_and(|role| role.holder)
                })
        };
        let open: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, known)| known.usable() && !known.asked.contains_key(&hash))
            .map(|(peer, _)| *peer)
            .filter(open)
            .collect();
        open.into_iter().for_each(|peer| self.tell(peer, hash, WantKind::Have, now));
    }

    /// Asks the holders that are left alone whether they have what nobody else does: of a file in pieces,
    /// one may decline many blocks that came to others before its own are asked for. Whether there are any.
    fn ask_holders(&mut self, hash: Hash, now: Duration) -> bool {
        let Some(want) = self.wants.get(&hash) else { return false };
        let sessions = want.waiters.iter().filter_map(|waiter| self.sessions.get(&waiter.session));
        let holders = sessions.flat_map(|session| {
            session.peers.iter().filter(|(peer, role)| role.holder && session.allows(peer))
        });
        let mut left: Vec<PeerId> = holders
            .map(|(peer, _)| *peer)
            .filter(|peer| self.peers.get(peer).is_some_and(|known| known.usable()))
            .filter(|peer| !want.is_declined_by(peer, now))
            .collect();
        left.sort_unstable();
        left.dedup();
        left.iter().for_each(|peer| self.tell(*peer, hash, WantKind::Have, now));
        !left.is_empty()
    }

    /// Whether an answer on this block may still come, or a peer to ask.
    fn awaits_answer(&self, hash: &Hash) -> bool {
        let Some(want) = self.wants.get(hash) else { return false };
        let mut sessions =
            want.waiters.iter().filter_map(|waiter| self.sessions.get(&waiter.session));
        let asked =
            |peer: &PeerId| self.peers.get(peer).is_some_and(|peer| peer.asked.contains_key(hash));
        if want.told.iter().any(asked) {
            return true;
        }
        let resting = self.peers.iter().filter(|(peer, known)| {
            known.may_come_back() && !want.declined.contains(&(**peer, None))
        });
        let resting: Vec<&PeerId> = resting.map(|(peer, _)| peer).collect();
        let comes_back = |session: &Session| {
            resting.iter().any(|peer| session.admits(peer, self.config.max_declined))
        };
        sessions.any(|session| session.awaits() || comes_back(session) || self.meets(session))
    }

    pub(super) fn tell(&mut self, peer: PeerId, hash: Hash, kind: WantKind, now: Duration) {
        let (Some(want), Some(known)) = (self.wants.get_mut(&hash), self.peers.get_mut(&peer))
        else {
            return;
        };
        if !want.told.contains(&peer) {
            want.told.push(peer);
        }
        known.ask(hash, kind, now);
        known.say(entry(want.cid, kind, false));
        self.talking.insert(peer);
    }

    /// A peer was connected, or can be asked again: what nobody had may now be had.
    pub(super) fn retry(&mut self, peer: Option<PeerId>, now: Duration) {
        if let Some(peer) = peer.filter(|peer| self.peers.contains_key(peer)) {
            self.sessions.values_mut().for_each(|session| session.connected(&peer));
        }
        self.queue_idle();
        self.assign(now);
        if let Some(peer) = peer {
            self.introduce(peer, now);
        }
    }

    /// Asks a new peer for a block that each session is waiting for, to see whether it is a holder.
    fn introduce(&mut self, peer: PeerId, now: Duration) {
        let sample: Vec<Hash> = self
            .sessions
            .values()
            .filter(|session| session.admits(&peer, self.config.max_declined))
            .filter_map(|session| session.wanted.iter().next_back().copied())
            .collect();
        for hash in sample {
            let open = self
                .peers
                .get(&peer)
                .is_some_and(|known| known.usable() && !known.asked.contains_key(&hash));
            let wanted = self.wants.get(&hash);
            if open && wanted.is_some_and(|want| !want.is_declined_by(&peer, now)) {
                self.tell(peer, hash, WantKind::Have, now);
            }
        }
    }

    /// Puts what nobody owes into the queues.
    pub(super) fn queue_idle(&mut self) {
        let idle = self.wants.iter().filter(|(_, want)| !want.queued && want.owed_by.is_none());
        let mut idle: Vec<(u64, Hash)> = idle.map(|(hash, want)| (want.number, *hash)).collect();
        idle.sort_unstable_by_key(|(number, _)| *number);
        idle.into_iter().for_each(|(_, hash)| self.queue(hash, false));
    }

    /// Puts a want into the queue, unless somebody owes it.
    pub(super) fn queue(&mut self, hash: Hash, first: bool) {
        let Some(want) = self.wants.get_mut(&hash) else { return };
        if want.queued || want.owed_by.is_some() {
            return;
        }
        let id = want.waiters.first().map(|waiter| waiter.session);
        let Some(session) = id.and_then(|id| self.sessions.get_mut(&id)) else { return };
        want.queued = true;
        if first {
            session.queue.push_front(hash);
        } else {
            session.queue.push_back(hash);
        }
    }

    fn exhausted(&mut self, hashes: &[Hash]) {
        let mut told: Vec<(SessionId, Vec<cid::Cid>)> = Vec::new();
        for hash in hashes {
            let Some(want) = self.wants.get_mut(hash) else { continue };
            for waiter in want.waiters.iter_mut().filter(|waiter| !waiter.exhausted) {
                waiter.exhausted = true;
                match told.iter_mut().find(|(session, _)| *session == waiter.session) {
                    Some((_, cids)) => cids.push(waiter.cid),
                    None => told.push((waiter.session, vec![waiter.cid])),
                }
            }
        }
        let told = told.into_iter().map(|(session, cids)| Action::Exhausted { session, cids });
        self.actions.extend(told);
    }

    /// There are others to ask: the session is told again when they have nothing either.
    pub(super) fn forget_exhausted(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        for hash in &session.wanted {
            let Some(want) = self.wants.get_mut(hash) else { continue };
            for waiter in want.waiters.iter_mut().filter(|waiter| waiter.session == id) {
                waiter.exhausted = false;
            }
        }
    }
}

/// What came of looking for a peer.
enum Asked {
    Yes,
    /// Nothing to do.
    Known,
    /// Those who have it owe enough already; `for_any`: and so for any other block.
    NoRoom {
        for_any: bool,
    },
    /// Nobody is left.
    Nobody,
}

/// A peer that can be asked for a block.
struct Rank {
    /// It said that it has it.
    offers: bool,
    finish: f64,
    score: f64,
    peer: PeerId,
}

impl Rank {
    /// One that offers the block, before the soonest, before the best.
    fn is_before(&self, other: &Self) -> bool {
        let order = other.offers.cmp(&self.offers);
        let order = order.then(self.finish.total_cmp(&other.finish));
        order.then(other.score.total_cmp(&self.score)).then(self.peer.cmp(&other.peer)).is_lt()
    }
}
