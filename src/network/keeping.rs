//! Does what the peer keeper and the water marks decide: dials protected peers, searches for them,
//! closes what is too much. And what a nudge comes to, for relays and protected peers alike.

use libp2p::PeerId;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{
    error::NetworkError,
    event_loop::EventLoop,
    peer_keeper::PeerKeeper,
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
}

impl Keeping {
    pub(super) fn new(seed: u64, marks: Marks) -> Self {
        Self { keeper: PeerKeeper::new(seed), marks: WaterMarks::new(marks), dials: Vec::new() }
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

    pub(super) fn contains(&self, peer: PeerId) -> bool {
        self.keeper.contains(peer)
    }

    /// It is known now where the peer is.
    pub(super) fn found(&mut self, peer: PeerId, now: Duration) {
        self.keeper.found(peer, now);
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
                    self.look_up_kept(peer);
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
}
