//! Peers that have only just connected: what they speak is not known yet.

use libp2p::PeerId;

use super::{Client, MAX_PEERS, session::Session};
use crate::platform::time::Duration;

/// How long a peer may take to say what it speaks: a few times around the world, on a busy machine.
const INTRODUCTION: Duration = Duration::from_secs(3);

impl Client {
    /// A peer is connected that has not said yet what it speaks. Until [`Client::connected`] or
    /// [`Client::disconnected`] says what came of it, but no longer than a few seconds, no session
    /// that may ask it is told that nobody has a block.
    pub fn met(&mut self, peer: PeerId, now: Duration) {
        if !self.peers.contains_key(&peer) && self.strangers.len() < MAX_PEERS {
            self.strangers.insert(peer, now.saturating_add(INTRODUCTION));
        }
    }

    /// Those who have said nothing for too long.
    pub(super) fn forget_strangers(&mut self, now: Duration) {
        let late = self.strangers.iter().filter(|(_, until)| **until <= now);
        let late: Vec<PeerId> = late.map(|(peer, _)| *peer).collect();
        late.into_iter().for_each(|peer| self.disconnected(peer, now));
    }

    /// Whether one of them may turn out to be of use to the session.
    pub(super) fn meets(&self, session: &Session) -> bool {
        self.strangers.keys().any(|peer| session.allows(peer))
    }
}
