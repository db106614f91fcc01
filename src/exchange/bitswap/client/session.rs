//! One fetch: what it wants, and what it knows of the peers.

use crate::boxmap::{BoxMap, BoxSet};
use std::collections::VecDeque;

use libp2p::PeerId;

use super::{Hash, MAX_PROVIDERS};

/// What a block is taken to hold before one has come.
const FIRST_SIZE: u64 = 256 << 10;
/// Entries of the queue that may name what is wanted no more, beyond as many as are wanted.
const MAX_STALE: usize = 1024;

#[derive(Debug)]
pub(super) struct Session {
    pub wanted: BoxSet<Hash>,
    /// Wants that nobody was asked for; may name some that are no longer wanted.
    pub queue: VecDeque<Hash>,
    pub peers: BoxMap<PeerId, Role>,
    pub providers_only: bool,
    /// Blocks asked for so far.
    pub asked: u64,
    /// The usual size of its blocks.
    pub block_size: u64,
    pub blocks: u64,
    /// Blocks asked of a second peer while the first still owed them.
    pub taken_over: u64,
}

/// What a session knows of a peer.
#[derive(Debug, Clone, Default)]
pub(super) struct Role {
    /// Named by the caller, with this score.
    pub provider: Option<f64>,
    /// Not connected yet.
    pub awaited: bool,
    /// Has, or had, one of its blocks.
    pub holder: bool,
    /// How many blocks in a row it has declined.
    pub declined: u32,
    /// It has declined one at some time: it does not have all.
    pub partial: bool,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            wanted: BoxSet::new(),
            queue: VecDeque::new(),
            peers: BoxMap::new(),
            providers_only: false,
            asked: 0,
            block_size: FIRST_SIZE,
            blocks: 0,
            taken_over: 0,
        }
    }
}

impl Session {
    /// Says whether it is a new one.
    pub fn add_provider(&mut self, peer: PeerId, score: f64, connected: bool) -> bool {
        let provider = |role: &Role| role.provider.is_some();
        let known = self.peers.get(&peer).is_some_and(provider);
        if !known && self.peers.values().filter(|role| provider(role)).count() >= MAX_PROVIDERS {
            return false;
        }
        let role = self.peers.entry(peer).or_default();
        role.provider = Some(score);
        role.awaited = !connected;
        !known
    }

    /// It is not connected (any more), and not on its way.
    pub fn gone(&mut self, peer: &PeerId) {
        let Some(role) = self.peers.get_mut(peer) else { return };
        *role = Role { provider: role.provider, ..Role::default() };
        if role.provider.is_none() {
            self.peers.remove(peer);
        }
    }

    pub fn connected(&mut self, peer: &PeerId) {
        if let Some(role) = self.peers.get_mut(peer) {
            role.awaited = false;
        }
    }

    /// Whether the peer may be asked, as far as the session has a say.
    pub fn admits(&self, peer: &PeerId, max_declined: u32) -> bool {
        match self.peers.get(peer) {
            Some(role) => role.declined < max_declined && self.allows(peer),
            None => self.allows(peer),
        }
    }

    /// Whether the peer is one of those that may be asked at all.
    pub fn allows(&self, peer: &PeerId) -> bool {
        !self.providers_only || self.peers.get(peer).is_some_and(|role| role.provider.is_some())
    }

    /// It has what this session wants. Says whether it was left alone before.
    pub fn holder(&mut self, peer: PeerId, max_declined: u32) -> bool {
        let role = self.peers.entry(peer).or_default();
        let declined = std::mem::take(&mut role.declined);
        role.holder = true;
        declined >= max_declined
    }

    /// It did not keep what it promised.
    pub fn no_holder(&mut self, peer: &PeerId) {
        if let Some(role) = self.peers.get_mut(peer) {
            role.holder = false;
        }
    }

    pub fn declined(&mut self, peer: PeerId) {
        let role = self.peers.entry(peer).or_default();
        role.declined += 1;
        role.partial = true;
    }

    pub fn got(&mut self, len: usize) {
        // Follows a rise at once: the inner nodes of a tree say nothing of the size of its leaves.
        let len = len as u64;
        self.block_size = len.max(self.block_size - self.block_size / 8 + len / 8).max(1);
        if self.blocks == 0 {
            self.block_size = len.max(FIRST_SIZE);
        }
        self.blocks += 1;
    }

    /// Takes what is wanted no more out of the queue when it has become much.
    pub fn tidy(&mut self) {
        if self.queue.len() > 2 * self.wanted.len() + MAX_STALE {
            let (wanted, mut seen) = (&self.wanted, BoxSet::new());
            self.queue.retain(|hash| wanted.contains(hash) && seen.insert(*hash));
        }
    }

    pub fn awaits(&self) -> bool {
        self.peers.values().any(|role| role.awaited)
    }
}
