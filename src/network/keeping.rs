//! Does what the peer keeper and the water marks decide: dials protected peers, searches for them,
//! closes what is too much. And what a nudge comes to, for relays and protected peers alike.

use libp2p::{
    PeerId,
    kad::{GetClosestPeersError, GetClosestPeersOk, GetClosestPeersResult, QueryId},
};
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{
    config::MAX_ADDRESSES_PER_PEER,
    error::NetworkError,
    event_loop::EventLoop,
    peer_keeper::{MAX_KEPT_DIALS, PeerKeeper},
    wanted::Waiter,
    water_marks::{Marks, WaterMarks, Worth},
};
use crate::platform::time::Duration;

/// Who is kept connected, and who is not.
#[derive(Debug)]
pub(super) struct Keeping {
    keeper: PeerKeeper,
    marks: WaterMarks,
    /// The dials that the keeper asked for. Dropping one gives it up.
    dials: Vec<(PeerId, oneshot::Receiver<Result<PeerId, NetworkError>>)>,
    /// Searches through peer routing; no more than there are dials.
    searches: Vec<(QueryId, PeerId)>,
}

impl Keeping {
    pub(super) fn new(seed: u64, marks: Marks) -> Self {
        Self {
            keeper: PeerKeeper::new(seed),
            marks: WaterMarks::new(marks),
            dials: Vec::new(),
            searches: Vec::new(),
        }
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.keeper.peers()
    }

    pub(super) fn connected(&mut self, peer: PeerId, now: Duration) {
        self.keeper.connected(peer, now);
        self.marks.connected(peer, now);
    }

    /// The last connection with the peer is gone.
    pub(super) fn disconnected(&mut self, peer: PeerId, now: Duration) {
        self.keeper.disconnected(peer, now);
        self.marks.disconnected(peer);
    }

    /// There is a way that was not there before, or may be one.
    pub(super) fn way_opened(&mut self, now: Duration) {
        self.keeper.nudge(now);
    }

    pub(super) fn next_wake(&self) -> Option<Duration> {
        self.keeper.next_wake().into_iter().chain(self.marks.next_wake()).min()
    }

    pub(super) fn clear(&mut self) {
        self.dials.clear();
    }

    /// The dials that have come to nothing.
    fn failed_dials(&mut self) -> Vec<PeerId> {
        let mut failed = Vec::new();
        self.dials.retain_mut(|(peer, answer)| match answer.try_recv() {
            Err(TryRecvError::Empty) => true,
            Ok(Ok(_)) => false,
            Ok(Err(_)) | Err(TryRecvError::Closed) => {
                failed.push(*peer);
                false
            }
        });
        failed
    }
}

impl EventLoop {
    pub(super) fn protect(&mut self, peers: &[PeerId], protect: bool) -> Result<(), NetworkError> {
        if !protect {
            self.unprotect(peers);
            return Ok(());
        }
        let own = *self.swarm.local_peer_id();
        if peers.contains(&own) {
            return Err(NetworkError::DialSelf(own));
        }
        let now = self.now();
        let connections = &self.connections;
        self.keeping.keeper.add(peers, |peer| connections.best(peer).is_some(), now)?;
        for peer in peers {
            self.swarm.behaviour_mut().streams.keep(*peer, true);
        }
        Ok(())
    }

    fn unprotect(&mut self, peers: &[PeerId]) {
        for peer in peers {
            if self.keeping.keeper.remove(*peer) {
                self.keeping.dials.retain(|(dialled, _)| dialled != peer);
                let near = self.nearby.keeper.knows(*peer);
                self.swarm.behaviour_mut().streams.keep(*peer, near);
            }
        }
    }

    /// What is due: dials of protected peers, and closing what is too much.
    pub(super) fn keep_peers(&mut self) {
        let now = self.now();
        if !self.keeping.dials.is_empty() {
            for peer in self.keeping.failed_dials() {
                if self.keeping.keeper.failed(peer, now) {
                    self.search_for(peer);
                }
            }
        }
        if self.keeping.next_wake().is_none_or(|wake| wake > now) {
            return;
        }
        for peer in self.keeping.keeper.due(now) {
            let (reply, answer) = oneshot::channel();
            self.keeping.dials.push((peer, answer));
            self.want(peer, None, Waiter::Dial(reply));
        }
        for peer in self.surplus(now) {
            tracing::debug!(%peer, "closing a peer to make room");
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    /// The network may have come back, or gone: tries what waits, probes what stands.
    pub(super) fn nudge(&mut self) {
        let actions = self.keeper.nudge(self.now());
        self.perform(actions);
        let protected: Vec<PeerId> = self.keeping.peers().collect();
        for peer in protected {
            self.probe(peer);
        }
        self.keeping.way_opened(self.now());
        self.nearby.finder.announce();
    }

    fn surplus(&mut self, now: Duration) -> Vec<PeerId> {
        let (keeper, connections) = (&self.keeper, &self.connections);
        let (kept, behaviour) = (&self.keeping.keeper, self.swarm.behaviour());
        let near = &self.nearby.keeper;
        let worth = |peer| {
            let stays = kept.contains(peer)
                || near.knows(peer)
                || keeper.index_of(peer).is_some()
                || behaviour.streams.in_use(peer)
                || behaviour.gossipsub.all_mesh_peers().any(|meshed| *meshed == peer);
            let worth = if connections.is_limited(peer) { Worth::Limited } else { Worth::Other };
            (!stays).then_some(worth)
        };
        self.keeping.marks.surplus(worth, now)
    }

    /// Asks the DHT where a protected peer is.
    fn search_for(&mut self, peer: PeerId) {
        let searches = &self.keeping.searches;
        let running = searches.len() >= MAX_KEPT_DIALS || searches.iter().any(|(_, p)| *p == peer);
        let kad = &mut self.swarm.behaviour_mut().kad;
        if running || kad.kbuckets().next().is_none() {
            return;
        }
        let query = kad.get_closest_peers(peer);
        self.keeping.searches.push((query, peer));
    }

    pub(super) fn on_looked_up(
        &mut self,
        query: QueryId,
        result: GetClosestPeersResult,
        last: bool,
    ) {
        let Some(at) = self.keeping.searches.iter().position(|(id, _)| *id == query) else {
            return;
        };
        let (Ok(GetClosestPeersOk { peers, .. })
        | Err(GetClosestPeersError::Timeout { peers, .. })) = result;
        let Some((_, wanted)) = self.keeping.searches.get(at).copied() else { return };
        if last {
            self.keeping.searches.swap_remove(at);
        }
        for found in peers.into_iter().filter(|found| found.peer_id == wanted) {
            let addresses = found.addrs.into_iter().take(4 * MAX_ADDRESSES_PER_PEER);
            let usable = self.dialer.usable(addresses, MAX_ADDRESSES_PER_PEER);
            if !usable.is_empty() {
                self.keeping.keeper.found(wanted, self.now());
            }
            // The book puts what comes last first.
            for address in usable.into_iter().rev() {
                self.book.add(wanted, address);
            }
        }
    }
}
