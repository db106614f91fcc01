//! The end of a fetch, or of what its reader wants ahead: when nothing is left to ask for, what a slow
//! peer owes is asked of a fast one.

use libp2p::PeerId;

use super::{Client, Hash, WantKind};
use crate::platform::time::Duration;

/// A takeover pays when the slow peer needs this many times as long as the fast one,
const GAIN: f64 = 3.0;
/// and this many seconds more.
const MIN_GAIN: f64 = 0.2;
/// Of a session's blocks, one in so many may be taken over,
const SHARE: u64 = 25;
/// and so many in any case.
const FREE: u64 = 32;
/// How many peers are compared at a time.
const COMPARED: usize = 8;
/// Takeovers at a time.
const MAX_AT_ONCE: usize = 64;

impl Client {
    pub(super) fn take_over(&mut self, now: Duration) {
        let waiting = self.sessions.values().filter(|session| session.queue.is_empty());
        let sizes = waiting.filter(|session| !session.wanted.is_empty());
        let Some(size) = sizes.map(|session| session.block_size).max() else { return };
        for _ in 0..MAX_AT_ONCE {
            let Some((hash, slow, fast)) = self.takeover(size, now) else { return };
            self.hand_over(hash, slow, fast, now);
            let stalled = self.peers.get_mut(&slow).and_then(|slow| slow.stalled(size, now));
            if let Some(until) = stalled {
                self.pass_over(slow, Some(until));
                return self.assign(now);
            }
        }
    }

    /// Which block is better asked of another peer.
    fn takeover(&self, size: u64, now: Duration) -> Option<(Hash, PeerId, PeerId)> {
        let lags = |(id, peer): (&PeerId, &super::Peer)| Some((peer.lags(size, now)?, *id));
        let mut slow: Vec<(f64, PeerId)> = self.peers.iter().filter_map(lags).collect();
        let (window, max_asked) = (self.config.window, self.config.max_asked);
        let free = |peer: &super::Peer| peer.reliable() && peer.has_room(size, window, max_asked);
        let reliable = self.peers.iter().filter(|(_, peer)| free(peer));
        let mut fast: Vec<(f64, PeerId)> = reliable
            .map(|(id, peer)| {
                let latency = peer.stats.latency.unwrap_or_default().as_secs_f64();
                (peer.finish(size, 1) + latency, *id)
            })
            .collect();
        slow.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        fast.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        for (lag, slow) in slow.iter().take(COMPARED) {
            let pays = |finish: f64| *lag > GAIN * finish && *lag > finish + MIN_GAIN;
            for (_, fast) in fast.iter().take(COMPARED).take_while(|(finish, _)| pays(*finish)) {
                let Some(peer) = self.peers.get(slow).filter(|_| slow != fast) else { continue };
                let owed = peer.asked.iter().filter(|(_, ask)| ask.kind == WantKind::Block);
                let may = owed.filter(|(hash, _)| self.may_take_over(hash, slow, fast, now));
                // The last one: the bytes of the first may be on their way.
                if let Some((hash, _)) = may.max_by_key(|(_, ask)| ask.number) {
                    return Some((*hash, *slow, *fast));
                }
            }
        }
        None
    }

    fn may_take_over(&self, hash: &Hash, slow: &PeerId, fast: &PeerId, now: Duration) -> bool {
        let Some(want) = self.wants.get(hash) else { return false };
        let mut sessions =
            want.waiters.iter().filter_map(|waiter| self.sessions.get(&waiter.session));
        want.owed_by == Some(*slow)
            && !want.is_declined_by(fast, now)
            && sessions.clone().all(|session| {
                session.queue.is_empty() && session.taken_over <= FREE + session.blocks / SHARE
            })
            && sessions.any(|session| {
                // One that has only a part would likely decline, and the slow one be asked a second time
                // for what it has sent by then.
                let holds =
                    session.peers.get(fast).is_some_and(|role| role.holder && !role.partial);
                (holds || want.offered.contains(fast))
                    && session.admits(fast, self.config.max_declined)
            })
    }

    fn hand_over(&mut self, hash: Hash, slow: PeerId, fast: PeerId, now: Duration) {
        self.withdraw(&slow, &hash);
        let Some(want) = self.wants.get_mut(&hash) else { return };
        want.owed_by = Some(fast);
        for waiter in &want.waiters {
            if let Some(session) = self.sessions.get_mut(&waiter.session) {
                session.taken_over += 1;
            }
        }
        self.tell(fast, hash, WantKind::Block, now);
    }
}
