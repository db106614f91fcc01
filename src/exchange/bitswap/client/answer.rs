//! What answers change, and what is taken back.

use libp2p::PeerId;

use super::{Action, Client, Hash, SessionId, Waiter, Want, WantKind, entry};
use crate::{content::block::Block, platform::time::Duration};

impl Client {
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
        let mut woken = false;
        for waiter in &want.waiters {
            if let Some(session) = self.sessions.get_mut(&waiter.session) {
                session.wanted.remove(&hash);
                session.got(len);
                woken |= session.holder(peer, self.config.max_declined);
            }
        }
        self.end(&hash, &want, Some(peer));
        // Sessions may know the same bytes by CIDs of their own.
        let mut by_cid: Vec<(cid::Cid, Vec<SessionId>)> = Vec::new();
        for Waiter { session, cid, .. } in want.waiters {
            match by_cid.iter_mut().find(|(known, _)| *known == cid) {
                Some((_, ids)) => ids.push(session),
                None => by_cid.push((cid, vec![session])),
            }
        }
        for (cid, sessions) in by_cid {
            if let Some(block) = block.with_cid(cid) {
                self.actions.push_back(Action::Block { sessions, block, from: peer });
            }
        }
        if woken {
            self.queue_idle();
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
        let mut woken = false;
        for waiter in &want.waiters {
            if let Some(session) = self.sessions.get_mut(&waiter.session) {
                woken |= session.holder(peer, self.config.max_declined);
            }
        }
        self.queue(*hash, true);
        if woken {
            self.queue_idle();
        }
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
            for waiter in &want.waiters {
                if let Some(session) = self.sessions.get_mut(&waiter.session) {
                    session.declined(peer);
                }
            }
        }
        self.queue(*hash, true);
    }

    /// Gives all that `peer` owes to others; it is not asked for that again `until` then.
    pub(super) fn pass_over(&mut self, peer: PeerId, until: Option<Duration>) {
        let Some(known) = self.peers.get(&peer) else { return };
        for hash in known.latest_first() {
            self.withdraw(&peer, &hash);
            let Some(want) = self.wants.get_mut(&hash) else { continue };
            want.declined.push((peer, until));
            for waiter in &want.waiters {
                if let Some(session) = self.sessions.get_mut(&waiter.session) {
                    session.no_holder(&peer);
                }
            }
            self.queue(hash, true);
        }
    }

    /// A peer that delivers does not answer whether it has these. If it is one to be asked for
    /// blocks, it is asked for them; else it is taken not to have them.
    pub(super) fn ignores_questions(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get(&peer) else { return };
        for hash in known.latest_first() {
            self.withdraw(&peer, &hash);
            let Some(want) = self.wants.get_mut(&hash) else { continue };
            let mut sessions = want.waiters.iter().filter_map(|w| self.sessions.get(&w.session));
            let is_asked = sessions.any(|session| {
                let role = session.peers.get(&peer);
                role.is_some_and(|role| role.holder || role.provider.is_some())
                    && session.admits(&peer, self.config.max_declined)
            });
            if !is_asked {
                want.declined.push((peer, Some(Duration::MAX)));
            }
            self.queue(hash, true);
        }
    }

    /// What the peer left out is asked for anew.
    pub(super) fn give_up_overtaken(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        for hash in known.overtaken(self.config.max_asked) {
            self.withdraw(&peer, &hash);
            self.queue(hash, true);
        }
    }

    /// Takes back what the peer was asked.
    pub(super) fn withdraw(&mut self, peer: &PeerId, hash: &Hash) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        known.settle(hash);
        let Some(want) = self.wants.get_mut(hash) else { return };
        known.say(entry(want.cid, WantKind::Block, true));
        self.talking.insert(*peer);
        want.forget(peer);
    }

    /// What the peer was passed over for may be asked of it again.
    pub(super) fn excuse(&mut self, peer: &PeerId) {
        for want in self.wants.values_mut() {
            want.declined.retain(|(declined, until)| declined != peer || until.is_none());
        }
    }

    /// The session wants this no more.
    pub(super) fn unwant(&mut self, id: SessionId, hash: &Hash) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.tidy();
        }
        let Some(want) = self.wants.get_mut(hash) else { return };
        want.waiters.retain(|waiter| waiter.session != id);
        if !want.waiters.is_empty() {
            // It may stand in the queue of the session that left.
            if std::mem::take(&mut want.queued) {
                self.queue(*hash, false);
            }
        } else if let Some(want) = self.wants.remove(hash) {
            self.end(hash, &want, None);
        }
    }

    /// Tells those who know of a want that it is over.
    fn end(&mut self, hash: &Hash, want: &Want, from: Option<PeerId>) {
        for peer in want.told.iter().filter(|peer| Some(**peer) != from) {
            if let Some(known) = self.peers.get_mut(peer) {
                known.settle(hash);
                known.say(entry(want.cid, WantKind::Block, true));
                self.talking.insert(*peer);
            }
        }
    }
}
