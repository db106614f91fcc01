//! The asking side of Bitswap, pure: which peer is asked for which block, and when another is.
//!
//! A [`SessionId`] stands for one fetch. A peer that says it has one of a session's blocks, or
//! delivers one, is a *holder*: the session's blocks are asked of its holders directly
//! (`want-block`), each of one holder, so that duplicates stay rare. The first blocks of a session
//! and every now and then a later one are announced to the other peers as well (`want-have`), which
//! finds more holders. Blocks that no holder has are announced to all; when all have declined, the
//! session is told ([`Action::Exhausted`]).
//!
//! How much is asked of a holder at a time follows from what it delivers: about two seconds of its
//! rate, at most [`ClientConfig::window`]. A block whose peer declines it, goes away or delivers
//! nothing for [`ClientConfig::patience`] is asked of the next; the silent peer is asked once more
//! before its silence counts as a no. When nothing is left to ask for, an idle fast peer takes over
//! what a slow one still owes.
//!
//! Blocks match by multihash: a peer may answer with another CID version or codec.

mod answer;
mod assign;
mod peer;
mod session;
#[cfg(test)]
mod simulation;
mod strangers;
mod takeover;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use cid::{Cid, multihash::Multihash};
use libp2p::PeerId;

use self::{peer::Peer, session::Session};
use super::message::{Presence, WantEntry, WantKind};
use crate::boxmap::{BoxMap, BoxSet};
use crate::{content::block::Block, platform::time::Duration};

pub use peer::PeerStats;

/// Sessions at a time.
pub const MAX_SESSIONS: usize = 1024;
/// Blocks wanted at a time, by all sessions together.
pub const MAX_WANTS: usize = 1 << 16;
/// Peers taken notice of.
pub const MAX_PEERS: usize = 512;
/// Peers that one session remembers as providers, connected or not.
pub const MAX_PROVIDERS: usize = 256;
/// Breaches of the protocol after which a peer is asked for nothing more on this connection.
pub const MAX_BREACHES: u32 = 3;

/// How the client paces itself.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Most bytes asked of one peer at a time, as estimated from the blocks that came before.
    pub window: u64,
    /// Most blocks asked of one peer at a time; below the 1024 that Kubo keeps.
    pub max_asked: usize,
    /// A peer that owes blocks and sends nothing for this long is passed over; one that owes answers
    /// only, later.
    pub patience: Duration,
    /// Blocks in a row that a peer declines before a session leaves it alone. One that had blocks before is
    /// still asked whether it has what nobody else does.
    pub max_declined: u32,
}

impl Default for ClientConfig {
    fn default() -> Self {
        let patience = Duration::from_secs(5);
        Self { window: 16 << 20, max_asked: 512, patience, max_declined: 16 }
    }
}

/// One fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// There is too much wanted already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_WANTS} blocks are wanted at a time")]
pub struct TooManyWants;

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Send {
        peer: PeerId,
        wants: Vec<WantEntry>,
        /// The first that this connection is told.
        full: bool,
    },
    /// `block` has the CID that the sessions asked for.
    Block { sessions: Vec<SessionId>, block: Block, from: PeerId },
    /// Every peer that this session may ask has declined, timed out or gone. They stay wanted until
    /// cancelled: a new peer may bring them.
    Exhausted { session: SessionId, cids: Vec<Cid> },
}

/// What blocks match by.
type Hash = Multihash<64>;

/// See the module.
#[derive(Debug, Default)]
pub struct Client {
    config: ClientConfig,
    sessions: BoxMap<SessionId, Session>,
    opened: u64,
    peers: BoxMap<PeerId, Peer>,
    /// Until when each is awaited; see [`Client::met`].
    strangers: BoxMap<PeerId, Duration>,
    wants: BoxMap<Hash, Want>,
    actions: VecDeque<Action>,
    /// Peers with something to be told.
    talking: BoxSet<PeerId>,
    /// Whose turn it was to ask.
    served: Option<SessionId>,
    /// Something was cancelled: a peer may have room for what others wait for.
    freed: bool,
    /// Blocks ever wanted.
    wanted: u64,
}

/// A block that somebody waits for.
#[derive(Debug)]
struct Want {
    /// As peers are told: some match by CID.
    cid: Cid,
    /// Counts up: what was wanted first is waited for first.
    number: u64,
    /// Who waits. It is in the queue of the first.
    waiters: Vec<Waiter>,
    /// The peer that owes the block; `None`: nobody was asked for it yet.
    owed_by: Option<PeerId>,
    /// In the queue.
    queued: bool,
    /// Who was told of it on this connection: they hear of its end.
    told: Vec<PeerId>,
    /// Who declined it, and until when that counts, if not for good.
    declined: Vec<(PeerId, Option<Duration>)>,
    /// Who said that it has it.
    offered: Vec<PeerId>,
}

/// A session that waits for a block.
#[derive(Debug)]
struct Waiter {
    session: SessionId,
    /// As it calls it.
    cid: Cid,
    /// It knows that nobody has it.
    exhausted: bool,
}

impl Client {
    pub fn new(config: ClientConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// A peer that speaks Bitswap is connected.
    pub fn connected(&mut self, peer: PeerId, now: Duration) {
        self.strangers.remove(&peer);
        if self.peers.contains_key(&peer) {
            return;
        }
        if self.peers.len() >= MAX_PEERS {
            return self.disconnected(peer, now);
        }
        self.peers.insert(peer, Peer::new(now));
        self.retry(Some(peer), now);
    }

    /// The peer is gone, or a provider that was to be connected cannot be.
    pub fn disconnected(&mut self, peer: PeerId, now: Duration) {
        self.talking.remove(&peer);
        self.strangers.remove(&peer);
        let owed = self.peers.remove(&peer).map(|gone| gone.latest_first()).unwrap_or_default();
        for session in self.sessions.values_mut() {
            session.gone(&peer);
        }
        // What it said holds for this connection only.
        for want in self.wants.values_mut() {
            want.forget(&peer);
        }
        for hash in owed {
            self.queue(hash, true);
        }
        self.retry(None, now);
    }

    pub fn open(&mut self) -> SessionId {
        let id = SessionId(self.opened);
        self.opened += 1;
        self.sessions.insert(id, Session::default());
        id
    }

    pub fn close(&mut self, session: SessionId) {
        let wanted: Vec<Hash> = match self.sessions.get(&session) {
            Some(session) => session.wanted.iter().copied().collect(),
            None => return,
        };
        wanted.iter().for_each(|hash| self.unwant(session, hash));
        self.sessions.remove(&session);
        self.freed = true;
    }

    /// A likely holder, asked for blocks at once; of several, the one with the highest `score` first
    /// while nothing is known of their rates. One that is not connected is waited for until
    /// [`Client::disconnected`] says that it does not come.
    pub fn add_provider(&mut self, session: SessionId, peer: PeerId, score: f64, now: Duration) {
        let connected = self.peers.contains_key(&peer);
        let Some(known) = self.sessions.get_mut(&session) else { return };
        if known.add_provider(peer, score, connected) {
            self.forget_exhausted(session);
        }
        self.retry(Some(peer), now);
    }

    /// Only providers are asked from now on: preferred sources, privacy, a chunk from one peer.
    pub fn providers_only(&mut self, session: SessionId, only: bool, now: Duration) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        if std::mem::replace(&mut known.providers_only, only) != only {
            self.forget_exhausted(session);
            self.retry(None, now);
        }
    }

    /// Asks for blocks; those wanted already are joined.
    pub fn want(&mut self, id: SessionId, cids: &[Cid], now: Duration) -> Result<(), TooManyWants> {
        for cid in cids {
            let hash = *cid.hash();
            let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
            if !self.wants.contains_key(&hash) && self.wants.len() >= MAX_WANTS {
                self.assign(now);
                return Err(TooManyWants);
            }
            if !session.wanted.insert(hash) {
                continue;
            }
            let want = self.wants.entry(hash).or_insert_with(|| {
                self.wanted += 1;
                Want::new(*cid, self.wanted)
            });
            want.waiters.push(Waiter { session: id, cid: *cid, exhausted: false });
            self.queue(hash, false);
        }
        self.assign(now);
        Ok(())
    }

    pub fn cancel(&mut self, session: SessionId, cids: &[Cid]) {
        for cid in cids {
            let known = self.sessions.get_mut(&session);
            if known.is_some_and(|session| session.wanted.remove(cid.hash())) {
                self.unwant(session, cid.hash());
                self.freed = true;
            }
        }
    }

    /// The CID under which a block with this multihash is wanted.
    pub fn wanted(&self, hash: &Hash) -> Option<Cid> {
        self.wants.get(hash).map(|want| want.cid)
    }

    /// Bytes of a message arrive from the peer: it is slow, not silent.
    pub fn receiving(&mut self, peer: PeerId, now: Duration) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.heard(now);
        }
    }

    /// Verified blocks and presences that came from `peer`. What nobody asked for is dropped.
    pub fn received(
        &mut self,
        peer: PeerId,
        blocks: Vec<Block>,
        presences: Vec<(Cid, Presence)>,
        now: Duration,
    ) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let (mut bytes, mut wanted, mut breaches) = (0, 0, 0);
        for block in &blocks {
            breaches += u32::from(known.sent_too_much());
            if self.wants.contains_key(block.cid().hash()) {
                wanted += 1;
                bytes += block.data().len() as u64;
            }
        }
        // That it has what it owes is no answer, however often it says so.
        let answers = |(cid, presence): &(Cid, Presence)| {
            let ask = known.asked.get(cid.hash());
            ask.is_some_and(|ask| ask.kind == WantKind::Have || *presence == Presence::DontHave)
        };
        if wanted > 0 || presences.iter().any(answers) {
            known.progressed(now);
        }
        let woken = wanted > 0 && known.delivered(bytes, wanted, now);
        blocks.iter().for_each(|block| self.block(peer, block));
        for (cid, presence) in presences {
            match presence {
                Presence::Have => self.offered(peer, cid.hash()),
                Presence::DontHave => self.declined(peer, cid.hash(), None),
            }
        }
        self.give_up_overtaken(peer);
        (0..breaches).for_each(|_| self.misbehaved(peer, now));
        if woken {
            self.excuse(&peer);
            self.retry(Some(peer), now);
        } else {
            self.assign(now);
        }
    }

    /// The peer sent a message that is none, or bytes that are not the block they should be.
    pub fn misbehaved(&mut self, peer: PeerId, now: Duration) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.breaches = known.breaches.saturating_add(1);
        if known.breaches >= MAX_BREACHES {
            self.pass_over(peer, None);
            self.assign(now);
        }
    }

    /// What is due at `now`; see [`Client::deadline`].
    pub fn tick(&mut self, now: Duration) {
        self.freed = false;
        let (mut silent, mut back) = (Vec::new(), Vec::new());
        for (id, peer) in &mut self.peers {
            if peer.due(self.config.patience).is_some_and(|due| due <= now) {
                silent.push(*id);
            }
            peer.judge(now);
            if peer.rested(now) {
                back.push(*id);
            }
        }
        for peer in silent {
            let Some(known) = self.peers.get_mut(&peer) else { continue };
            if known.owed == 0 && known.reliable() {
                self.ignores_questions(peer);
            } else {
                let until = known.timed_out(now);
                self.pass_over(peer, Some(until));
            }
        }
        back.into_iter().for_each(|peer| self.retry(Some(peer), now));
        self.forget_strangers(now);
        self.assign(now);
    }

    /// When [`Client::tick`] has something to do, unless something happens before.
    pub fn deadline(&self) -> Option<Duration> {
        if self.freed {
            return Some(Duration::ZERO);
        }
        let patience = self.config.patience;
        self.peers
            .values()
            .flat_map(|peer| [peer.due(patience), peer.judge_at(), peer.rests_until()])
            .flatten()
            .chain(self.strangers.values().copied())
            .min()
    }

    /// To be drained after each call.
    pub fn next_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        while let Some(id) = self.talking.pop_first() {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            if let Some((wants, full)) = peer.take_outbox() {
                return Some(Action::Send { peer: id, wants, full });
            }
        }
        None
    }

    pub fn stats(&self, peer: &PeerId) -> Option<PeerStats> {
        self.peers.get(peer).map(|peer| peer.stats.clone())
    }

    /// Sessions open and blocks wanted.
    pub fn load(&self) -> (usize, usize) {
        (self.sessions.len(), self.wants.len())
    }
}

impl Want {
    fn new(cid: Cid, number: u64) -> Self {
        Self {
            cid,
            number,
            waiters: Vec::new(),
            owed_by: None,
            queued: false,
            told: Vec::new(),
            declined: Vec::new(),
            offered: Vec::new(),
        }
    }

    fn forget(&mut self, peer: &PeerId) {
        self.told.retain(|told| told != peer);
        self.declined.retain(|(declined, _)| declined != peer);
        self.offered.retain(|offered| offered != peer);
        if self.owed_by.as_ref() == Some(peer) {
            self.owed_by = None;
        }
    }

    fn is_declined_by(&self, peer: &PeerId, now: Duration) -> bool {
        self.declined
            .iter()
            .any(|(declined, until)| declined == peer && until.is_none_or(|until| until > now))
    }
}

/// What is said to a peer of one block.
fn entry(cid: Cid, kind: WantKind, cancel: bool) -> WantEntry {
    WantEntry { cid, priority: 1, kind, cancel, send_dont_have: !cancel }
}
