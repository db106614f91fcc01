//! Who this peer is connected with: peers that are kept connected, how all of it stands, and what has
//! changed.

use std::{collections::VecDeque, pin::pin, sync::Arc};

use futures::future::{Either, select};
use libp2p::{Multiaddr, PeerId};

use super::{FindOptions, Peer, convert};
use crate::{
    error::{Error, Result},
    network::{
        NetworkError, PeerInfo, PeerStreams, PeersWatch, RelayState, RelayStatus, Status,
        peer_keeper::MAX_KEPT_PEERS, peers::Peers, status::StatusWatch,
    },
    platform::{database::Usage, time},
};

/// How everything stands at one moment.
#[derive(Debug, Clone)]
pub struct Overview {
    pub network: Status,
    /// Of the relays too.
    pub peers: Arc<Peers>,
    pub storage: Usage,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A peer other than the relays.
    Connected {
        info: PeerInfo,
        protected: bool,
    },
    Disconnected(PeerId),
    /// Others can reach this peer through the relay.
    RelayUp {
        /// As it stands in the configuration.
        relay: String,
        peer: Option<PeerId>,
    },
    RelayDown {
        relay: String,
        peer: Option<PeerId>,
        reason: String,
    },
    /// All that has changed was told, and anything else (a latency, a route) may have, too.
    Updated,
}

/// The changes, in order. What comes and goes between two looks is not told; so whoever is slow misses
/// some, and nothing piles up. Does not keep the network open.
pub struct Changes {
    peers: PeersWatch,
    status: StatusWatch,
    seen: Seen,
    ready: VecDeque<Change>,
    ended: bool,
}

/// What was told.
#[derive(Debug, Default)]
struct Seen {
    /// In order.
    peers: Vec<PeerId>,
    /// In the order of the configuration.
    relays: Vec<SeenRelay>,
}

#[derive(Debug)]
struct SeenRelay {
    name: String,
    peer: Option<PeerId>,
    up: bool,
}

impl Peer {
    /// Keeps peers connected from now on: they are dialled now and whenever they are gone, and never
    /// closed to make room. Or, no longer; connections stay while they are of use. Resolves when that is
    /// noted, not when they are connected.
    pub async fn keep_peers(&self, peers: Vec<PeerId>, keep: bool) -> Result<()> {
        self.inner.network.protect(peers, keep).await.map_err(|error| match error {
            NetworkError::TooMany { .. } => Error::TooLarge {
                what: "the list of peers to keep connected".into(),
                reason: format!("at most {MAX_KEPT_PEERS}"),
            },
            NetworkError::DialSelf(_) => {
                Error::BadArgument { what: "peerIDs", reason: error.to_string() }
            }
            error => convert::network_error(error),
        })
    }

    /// Where a peer is, best address first: as far as it is known here, else what the DHT knows. Resolves
    /// with at least one address, which can be dialled from here.
    pub async fn find_peer(&self, peer: PeerId, options: FindOptions) -> Result<Vec<Multiaddr>> {
        let found = self.inner.network.find_peer(peer);
        let found = match options.timeout {
            None => found.await,
            Some(after) => time::timeout(after, found).await.map_err(|_| {
                let what = format!("finding the peer {peer}");
                Error::Timeout { what, after }
            })?,
        };
        found.map_err(|error| match error {
            NetworkError::PeerNotFound { .. } => {
                let asked = vec!["the peers it has met: no".to_owned(), "the DHT: no".to_owned()];
                Error::NotFound { what: format!("the peer {peer}"), asked }
            }
            NetworkError::TooMany { .. } => Error::Busy { what: "operations of the DHT" },
            NetworkError::DialSelf(_) => {
                Error::BadArgument { what: "peerID", reason: error.to_string() }
            }
            error => convert::network_error(error),
        })
    }

    /// Resolves when the DHT can be asked, `true`, or could not be within half a minute of the start,
    /// `false`. What asks the DHT waits for that by itself.
    pub async fn dht_ready(&self) -> bool {
        self.inner.network.dht_ready().await
    }

    pub async fn overview(&self) -> Result<Overview> {
        let network = &self.inner.network;
        let storage = self.usage().await?;
        if network.is_closed() {
            return Err(Error::Closed);
        }
        let peers = PeerStreams::peers(network).current();
        Ok(Overview { network: network.status().current(), peers, storage })
    }

    /// What changes from now on.
    pub fn changes(&self) -> Changes {
        let network = &self.inner.network;
        let (mut peers, mut status) = (PeerStreams::peers(network), network.status());
        let mut seen = Seen::default();
        seen.compare(&peers.look(), &status.look());
        Changes { peers, status, seen, ready: VecDeque::new(), ended: false }
    }
}

impl Changes {
    /// The next change; `None` after the peer was closed and its end told.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some(change);
            }
            if self.ended {
                return None;
            }
            let open = {
                let (peers, status) = (pin!(self.peers.changed()), pin!(self.status.changed()));
                match select(peers, status).await {
                    Either::Left((peers, _)) => peers.is_some(),
                    Either::Right((status, _)) => status.is_some(),
                }
            };
            let mut status = self.status.look();
            self.ended = !open || status.closed;
            if self.ended {
                status.relays.clear();
            }
            let peers = if self.ended { Arc::default() } else { self.peers.look() };
            self.ready.extend(self.seen.compare(&peers, &status));
        }
    }
}

impl Seen {
    /// What differs from what was told; counts as told then.
    fn compare(&mut self, peers: &Peers, status: &Status) -> Vec<Change> {
        let mut changes = Vec::new();
        for relay in status.relays.iter().skip(self.relays.len()) {
            self.relays.push(SeenRelay { name: relay.spec.clone(), peer: None, up: false });
        }
        for (at, seen) in self.relays.iter_mut().enumerate() {
            // A closed network has no relays any more.
            let relay = status.relays.get(at);
            let up = relay.is_some_and(|relay| relay.state == RelayState::Reserved);
            if up == seen.up {
                continue;
            }
            seen.up = up;
            seen.peer = relay.and_then(|relay| relay.peer).or(seen.peer);
            let (relay, peer, reason) = (seen.name.clone(), seen.peer, reason(relay));
            changes.push(if up {
                Change::RelayUp { relay, peer }
            } else {
                Change::RelayDown { relay, peer, reason }
            });
        }
        let others: Vec<&PeerInfo> = peers.values().filter(|info| !info.is_relay).collect();
        for id in &self.peers {
            if others.binary_search_by_key(id, |info| info.id).is_err() {
                changes.push(Change::Disconnected(*id));
            }
        }
        for info in &others {
            if self.peers.binary_search(&info.id).is_err() {
                let protected = status.protected.contains(&info.id);
                changes.push(Change::Connected { info: (*info).clone(), protected });
            }
        }
        self.peers = others.iter().map(|info| info.id).collect();
        changes.push(Change::Updated);
        changes
    }
}

/// Why a relay is down.
fn reason(relay: Option<&RelayStatus>) -> String {
    match relay.map(|relay| &relay.state) {
        Some(RelayState::Backoff { reason, .. } | RelayState::Failed { reason }) => reason.clone(),
        Some(_) => "it is being connected again".to_owned(),
        None => "this peer was closed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(ids: &[PeerId], relay: PeerId) -> Peers {
        let info = |id: &PeerId| PeerInfo {
            id: *id,
            address: Multiaddr::empty(),
            relay: None,
            limited: false,
            is_relay: *id == relay,
            connections: 1,
            protocols: Vec::new(),
            agent: None,
            latency: None,
        };
        ids.iter().map(|id| (*id, info(id))).collect()
    }

    fn status(relay: PeerId, state: RelayState) -> Status {
        let relay = RelayStatus {
            spec: "spec".into(),
            peer: Some(relay),
            address: None,
            state,
            failures: 0,
            limit: None,
        };
        Status { relays: vec![relay], ..Status::default() }
    }

    #[test]
    fn what_comes_and_goes_is_told_once() {
        let [relay, a, b] = [(); 3].map(|()| PeerId::random());
        let mut seen = Seen::default();
        let known = peers(&[relay, a], relay);
        let changes = seen.compare(&known, &status(relay, RelayState::Reserved));
        let up = Change::RelayUp { relay: "spec".into(), peer: Some(relay) };
        let connected =
            |info: &PeerInfo| Change::Connected { info: info.clone(), protected: false };
        assert_eq!(changes, [up, connected(&known[&a]), Change::Updated]);
        let changes = seen.compare(&known, &status(relay, RelayState::Reserved));
        assert_eq!(changes, [Change::Updated]);

        let known = peers(&[b], relay);
        let failed = RelayState::Failed { reason: "gone".into() };
        let changes = seen.compare(&known, &status(relay, failed));
        let down = |reason: &str| Change::RelayDown {
            relay: "spec".into(),
            peer: Some(relay),
            reason: reason.into(),
        };
        let came = connected(&known[&b]);
        assert_eq!(changes, [down("gone"), Change::Disconnected(a), came, Change::Updated]);

        seen.compare(&known, &status(relay, RelayState::Reserved));
        // Closed.
        let changes = seen.compare(&Peers::new(), &Status::default());
        let closed = down("this peer was closed");
        assert_eq!(changes, [closed, Change::Disconnected(b), Change::Updated]);
    }
}
