//! Who is asked for what: the decisions of the client, and what answers change.

use libp2p::PeerId;

use super::{Action, Client, Hash, SessionId, WantKind, entry};
use crate::{content::block::Block, platform::time::Duration};

/// Blocks at the start of a session that all peers hear of.
const EXPLORED: u64 = 2;
/// After these, one block in so many.
const EXPLORE_EVERY: u64 = 64;
/// Queued blocks that are looked at for one that can be asked for now, when those before it cannot.
const LOOK_AHEAD: usize = 64;
/// A takeover pays when the slow peer needs this many times as long as the idle one.
const TAKEOVER_GAIN: f64 = 3.0;
/// Of a session's blocks, one in so many may be taken over, and a few in any case.
const TAKEOVER_SHARE: u64 = 50;

impl Client {
    /// Asks for what is queued, as far as there is room.
    pub(super) fn assign(&mut self, now: Duration) {
        let waiting: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| !session.queue.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.assign_session(id, now);
        }
        self.take_over(now);
    }

    fn assign_session(&mut self, id: SessionId, now: Duration) {
        let (mut later, mut exhausted) = (Vec::new(), Vec::new());
        while later.len() < LOOK_AHEAD {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            let Some(hash) = session.queue.pop_front() else { break };
            match self.ask(hash, now) {
                Asked::Yes | Asked::Known => {}
                Asked::NoRoom { for_any } => {
                    later.push(hash);
                    if for_any {
                        break;
                    }
                }
                Asked::Nobody => exhausted.push(hash),
            }
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            later.into_iter().rev().for_each(|hash| session.queue.push_front(hash));
        }
        self.exhausted(&exhausted);
    }

    /// Finds a peer for one block.
    fn ask(&mut self, hash: Hash, now: Duration) -> Asked {
        let Some(want) = self.wants.get(&hash).filter(|w| w.queued && w.owed_by.is_none()) else {
            return Asked::Known;
        };
        let (mut best, mut full) = (None::<Rank>, false);
        let sessions = want.sessions.iter().filter_map(|(id, _)| self.sessions.get(id));
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
                if !known.has_room(size, self.config.window, self.config.max_asked) {
                    full = true;
                    continue;
                }
                let score = role.provider.unwrap_or_default();
                let rank = Rank { offers, finish: known.finish(size), score, peer: *peer };
                if best.as_ref().is_none_or(|best| rank.is_before(best)) {
                    best = Some(rank);
                }
            }
        }
        let number = sessions.map(|session| session.asked).min().unwrap_or_default();
        match best {
            Some(Rank { peer, .. }) => {
                self.tell(peer, hash, WantKind::Block, now);
                if let Some(want) = self.wants.get_mut(&hash) {
                    (want.owed_by, want.queued) = (Some(peer), false);
                    for (id, _) in &want.sessions {
                        if let Some(session) = self.sessions.get_mut(id) {
                            session.asked += 1;
                        }
                    }
                }
                if number < EXPLORED || number.is_multiple_of(EXPLORE_EVERY) {
                    self.announce(hash, now);
                }
                Asked::Yes
            }
            None if full => Asked::NoRoom { for_any: want.declined.is_empty() },
            None => {
                self.announce(hash, now);
                let waits = self.awaits_answer(&hash);
                if let Some(want) = self.wants.get_mut(&hash) {
                    want.queued = false;
                }
                if waits { Asked::Yes } else { Asked::Nobody }
            }
        }
    }

    /// Tells every other peer that may be asked that the block is wanted.
    fn announce(&mut self, hash: Hash, now: Duration) {
        let Some(want) = self.wants.get(&hash) else { return };
        let sessions: Vec<_> =
            want.sessions.iter().filter_map(|(id, _)| self.sessions.get(id)).collect();
        let open = |peer: &PeerId| {
            !want.offered.contains(peer)
                && !want.is_declined_by(peer, now)
                && sessions.iter().any(|session| {
                    session.admits(peer, self.config.max_declined)
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

    /// Whether an answer on this block may still come, or a peer to ask.
    fn awaits_answer(&self, hash: &Hash) -> bool {
        let Some(want) = self.wants.get(hash) else { return false };
        let mut sessions = want.sessions.iter().filter_map(|(id, _)| self.sessions.get(id));
        let asked =
            |peer: &PeerId| self.peers.get(peer).is_some_and(|peer| peer.asked.contains_key(hash));
        sessions.any(|session| session.awaits()) || want.told.iter().any(asked)
    }

    fn tell(&mut self, peer: PeerId, hash: Hash, kind: WantKind, now: Duration) {
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

    /// A block came from `peer`.
    pub(super) fn block(&mut self, peer: PeerId, block: &Block) {
        let hash = *block.cid().hash();
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.settle(&hash);
        let len = block.data().len();
        let Some(want) = self.wants.remove(&hash) else {
            known.stats.useless += 1;
            known.stats.useless_bytes += len as u64;
            return;
        };
        known.stats.blocks += 1;
        known.stats.bytes += len as u64;
        for (id, _) in &want.sessions {
            if let Some(session) = self.sessions.get_mut(id) {
                session.wanted.remove(&hash);
                session.got(len);
                session.holder(peer);
            }
        }
        self.end(&hash, &want, Some(peer));
        // Sessions may know the same bytes by CIDs of their own.
        let mut by_cid: Vec<(cid::Cid, Vec<SessionId>)> = Vec::new();
        for (id, cid) in want.sessions {
            match by_cid.iter_mut().find(|(known, _)| *known == cid) {
                Some((_, ids)) => ids.push(id),
                None => by_cid.push((cid, vec![id])),
            }
        }
        for (cid, sessions) in by_cid {
            if let Some(block) = block.with_cid(cid) {
                self.actions.push_back(Action::Block { sessions, block, from: peer });
            }
        }
    }

    /// `peer` says that it has a block.
    pub(super) fn offered(&mut self, peer: PeerId, hash: &Hash) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        // Having said so is not yet having delivered.
        if known.asked.get(hash).is_some_and(|ask| ask.kind == WantKind::Have) {
            known.settle(hash);
        }
        let Some(want) = self.wants.get_mut(hash) else { return };
        if !want.told.contains(&peer) {
            return;
        }
        want.declined.retain(|(declined, _)| *declined != peer);
        if !want.offered.contains(&peer) {
            want.offered.push(peer);
        }
        for (id, _) in &want.sessions {
            if let Some(session) = self.sessions.get_mut(id) {
                session.holder(peer);
            }
        }
        self.queue(*hash, true);
    }

    /// `peer` says that it does not have a block, or is taken not to have it `until` then.
    pub(super) fn declined(&mut self, peer: PeerId, hash: &Hash, until: Option<Duration>) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let Some(want) = self.wants.get_mut(hash) else {
            known.settle(hash);
            return;
        };
        if !want.told.contains(&peer) {
            return;
        }
        known.settle(hash);
        want.offered.retain(|offered| *offered != peer);
        want.declined.retain(|(declined, _)| *declined != peer);
        want.declined.push((peer, until));
        if want.owed_by == Some(peer) {
            want.owed_by = None;
        }
        if until.is_none() {
            known.stats.declined += 1;
            for (id, _) in &want.sessions {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.declined(peer);
                }
            }
        }
        self.queue(*hash, true);
    }

    /// Gives all that `peer` owes to others; it is not asked for that again `until` then.
    pub(super) fn pass_over(&mut self, peer: PeerId, until: Option<Duration>) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let owed: Vec<Hash> = known.asked.keys().copied().collect();
        for hash in &owed {
            if let Some(want) = self.wants.get(hash) {
                known.say(entry(want.cid, WantKind::Block, true));
                self.talking.insert(peer);
            }
        }
        owed.iter().for_each(|hash| self.declined(peer, hash, until));
    }

    /// A peer was connected, or can be asked again: what nobody had may now be had.
    pub(super) fn retry(&mut self, peer: Option<PeerId>, now: Duration) {
        if let Some(peer) = peer.filter(|peer| self.peers.contains_key(peer)) {
            self.sessions.values_mut().for_each(|session| session.connected(&peer));
        }
        let idle: Vec<Hash> = self
            .wants
            .iter()
            .filter(|(_, want)| !want.queued && want.owed_by.is_none())
            .map(|(hash, _)| *hash)
            .collect();
        idle.into_iter().for_each(|hash| self.queue(hash, false));
        if let Some(peer) = peer {
            self.introduce(peer, now);
        }
        self.assign(now);
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
            let owed = self.wants.get(&hash).is_some_and(|want| want.owed_by.is_some());
            if open && owed {
                self.tell(peer, hash, WantKind::Have, now);
            }
        }
    }

    /// Puts a want into the queue, unless somebody owes it.
    pub(super) fn queue(&mut self, hash: Hash, first: bool) {
        let Some(want) = self.wants.get_mut(&hash) else { return };
        if want.queued || want.owed_by.is_some() {
            return;
        }
        let id = want.sessions.first().map(|(id, _)| *id);
        let Some(session) = id.and_then(|id| self.sessions.get_mut(&id)) else { return };
        want.queued = true;
        if first {
            session.queue.push_front(hash);
        } else {
            session.queue.push_back(hash);
        }
    }

    /// The session wants this no more.
    pub(super) fn unwant(&mut self, id: SessionId, hash: &Hash) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.tidy();
        }
        let Some(want) = self.wants.get_mut(hash) else { return };
        want.sessions.retain(|(session, _)| *session != id);
        if !want.sessions.is_empty() {
            // It may stand in the queue of the session that left.
            if std::mem::take(&mut want.queued) {
                self.queue(*hash, false);
            }
        } else if let Some(want) = self.wants.remove(hash) {
            self.end(hash, &want, None);
        }
    }

    /// Tells those who know of a want that it is over.
    fn end(&mut self, hash: &Hash, want: &super::Want, from: Option<PeerId>) {
        for peer in want.told.iter().filter(|peer| Some(**peer) != from) {
            if let Some(known) = self.peers.get_mut(peer) {
                known.settle(hash);
                known.say(entry(want.cid, WantKind::Block, true));
                self.talking.insert(*peer);
            }
        }
    }

    fn exhausted(&mut self, hashes: &[Hash]) {
        let mut told: Vec<(SessionId, Vec<cid::Cid>)> = Vec::new();
        for hash in hashes {
            let Some(want) = self.wants.get_mut(hash) else { continue };
            if std::mem::replace(&mut want.exhausted, true) {
                continue;
            }
            for (id, cid) in &want.sessions {
                match told.iter_mut().find(|(session, _)| session == id) {
                    Some((_, cids)) => cids.push(*cid),
                    None => told.push((*id, vec![*cid])),
                }
            }
        }
        let told = told.into_iter().map(|(session, cids)| Action::Exhausted { session, cids });
        self.actions.extend(told);
    }

    /// Lets idle peers take over what much slower ones owe, when there is nothing else to ask for.
    fn take_over(&mut self, now: Duration) {
        let idle: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.usable() && peer.owed == 0 && peer.stats.rate.is_some())
            .map(|(id, _)| *id)
            .collect();
        for idle in idle {
            if let Some((hash, slow)) = self.takeover_for(idle, now) {
                let want = self.wants.get_mut(&hash);
                let Some(cid) = want.and_then(|want| {
                    want.owed_by = Some(idle);
                    for (id, _) in &want.sessions {
                        if let Some(session) = self.sessions.get_mut(id) {
                            session.taken_over += 1;
                        }
                    }
                    Some(want.cid)
                }) else {
                    continue;
                };
                if let Some(known) = self.peers.get_mut(&slow) {
                    known.settle(&hash);
                    known.say(entry(cid, WantKind::Block, true));
                    self.talking.insert(slow);
                }
                self.tell(idle, hash, WantKind::Block, now);
            }
        }
    }

    fn takeover_for(&self, idle: PeerId, now: Duration) -> Option<(Hash, PeerId)> {
        let fast = self.peers.get(&idle)?;
        for (slow, peer) in self.peers.iter().filter(|(id, peer)| **id != idle && peer.owed > 1) {
            let gain = peer.finish(1 << 20) / fast.finish(1 << 20).max(1e-6);
            if gain < TAKEOVER_GAIN {
                continue;
            }
            let may = |hash: &Hash| {
                let Some(want) = self.wants.get(hash) else { return false };
                want.owed_by == Some(*slow)
                    && !want.is_declined_by(&idle, now)
                    && want.sessions.iter().all(|(id, _)| {
                        self.sessions.get(id).is_some_and(|session| {
                            session.queue.is_empty()
                                && session.taken_over <= 1 + session.blocks / TAKEOVER_SHARE
                                && session.peers.get(&idle).is_some_and(|role| role.holder)
                                && session.admits(&idle, self.config.max_declined)
                        })
                    })
            };
            // The last one: the bytes of the first may be on their way.
            let owed = peer.asked.iter().filter(|(_, ask)| ask.kind == WantKind::Block);
            let last = owed.filter(|(hash, _)| may(hash)).max_by_key(|(_, ask)| ask.number);
            if let Some((hash, _)) = last {
                return Some((*hash, *slow));
            }
        }
        None
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
