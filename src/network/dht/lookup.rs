//! Peer routing: where a peer is, as far as the DHT knows.
//!
//! Two things are asked together. Servers that know the peer name it among those nearest to its id. And
//! peers of ours, which serve no DHT and are named by none, announce themselves under the multihash that
//! is their id, as providers of it, with the addresses at which they are reached.

use libp2p::{
    Multiaddr, PeerId,
    kad::{GetClosestPeersError, GetClosestPeersOk, GetClosestPeersResult, QueryId},
};
use tokio::sync::oneshot;

use super::{DhtState, Finder, Operation};
use crate::network::{
    config::{MAX_ADDRESSES_PER_PEER, MAX_PROVIDERS, MAX_WAITERS_PER_PEER},
    error::NetworkError,
    event_loop::EventLoop,
    peer_keeper::MAX_KEPT_DIALS,
};

/// Where the addresses of a peer go, its id at the end of each.
pub type FindReply = oneshot::Sender<Result<Vec<Multiaddr>, NetworkError>>;

/// A peer that is looked for.
#[derive(Debug)]
pub struct Lookup {
    /// Those under way.
    queries: Vec<QueryId>,
    replies: Vec<FindReply>,
}

impl EventLoop {
    /// The addresses that are known here, else what the DHT knows.
    pub(in crate::network) fn find_peer(&mut self, peer: PeerId, reply: FindReply) {
        if peer == *self.swarm.local_peer_id() {
            let _ = reply.send(Err(NetworkError::DialSelf(peer)));
            return;
        }
        let mut known = self.book.get(peer);
        if known.is_empty() {
            known = self.dialer.usable(self.connections.dialled(peer), MAX_ADDRESSES_PER_PEER);
        }
        if known.is_empty() {
            return self.enqueue(Operation::FindPeer { peer, reply });
        }
        let _ = reply.send(Ok(named(peer, known)));
    }

    /// Asks the DHT where a peer is; for a call, or because the peer is kept connected.
    pub(super) fn look_up(&mut self, peer: PeerId, reply: Option<FindReply>) {
        if let Some(lookup) = self.queries.lookups.get_mut(&peer) {
            let Some(reply) = reply else { return };
            if lookup.replies.len() < MAX_WAITERS_PER_PEER {
                lookup.replies.push(reply);
            } else {
                let (what, limit) = ("calls looking for one peer", MAX_WAITERS_PER_PEER);
                let _ = reply.send(Err(NetworkError::TooMany { what, limit }));
            }
            return;
        }
        let closest = self.swarm.behaviour_mut().kad.get_closest_peers(peer);
        let record = self.search(&peer.to_bytes(), MAX_PROVIDERS, Finder::Lookup(peer));
        let replies = reply.into_iter().collect();
        self.queries.lookups.insert(peer, Lookup { queries: vec![closest, record], replies });
    }

    /// The same for a protected peer, unless too many are looked for.
    pub(in crate::network) fn look_up_kept(&mut self, peer: PeerId) {
        let room = self.queries.lookups.len() < MAX_KEPT_DIALS && self.queries.has_room();
        if room && self.queries.state() == DhtState::Ready {
            self.look_up(peer, None);
        }
    }

    /// libp2p-kad dials a peer to ask it. If it is one that is looked for, it was named with addresses.
    pub(in crate::network) fn on_dialing(&mut self, peer: PeerId) {
        if self.queries.lookups.contains_key(&peer) {
            self.look_at_queries(peer);
        }
    }

    pub(super) fn on_closest_peers(
        &mut self,
        query: QueryId,
        result: GetClosestPeersResult,
        last: bool,
    ) {
        let mut lookups = self.queries.lookups.iter();
        let lookup = lookups.find(|(_, lookup)| lookup.queries.contains(&query));
        let Some(wanted) = lookup.map(|(peer, _)| *peer) else { return };
        let (Ok(GetClosestPeersOk { peers, .. })
        | Err(GetClosestPeersError::Timeout { peers, .. })) = result;
        for found in peers.into_iter().filter(|found| found.peer_id == wanted) {
            let addresses = found.addrs.into_iter().take(4 * MAX_ADDRESSES_PER_PEER);
            let usable = self.dialer.usable(addresses, MAX_ADDRESSES_PER_PEER);
            self.found_at(wanted, usable);
        }
        if last {
            self.lookup_ended(wanted, query);
        }
    }

    /// Whether running queries have brought addresses of a peer that is looked for.
    pub(super) fn look_at_queries(&mut self, peer: PeerId) {
        let addresses = self.dht_addresses(peer);
        self.found_at(peer, addresses);
    }

    pub(super) fn found_at(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if addresses.is_empty() {
            return;
        }
        // The book puts what comes last first.
        for address in addresses.iter().rev() {
            self.book.add(peer, address.clone());
        }
        let now = self.now();
        self.keeping.found(peer, now);
        let Some(lookup) = self.queries.lookups.remove(&peer) else { return };
        self.end_lookup(&lookup);
        for reply in lookup.replies {
            let _ = reply.send(Ok(named(peer, addresses.clone())));
        }
    }

    /// One of the queries for a peer has ended.
    pub(super) fn lookup_ended(&mut self, peer: PeerId, query: QueryId) {
        let Some(lookup) = self.queries.lookups.get_mut(&peer) else { return };
        lookup.queries.retain(|id| *id != query);
        if lookup.queries.is_empty()
            && let Some(lookup) = self.queries.lookups.remove(&peer)
        {
            for reply in lookup.replies {
                let _ = reply.send(Err(NetworkError::PeerNotFound { peer }));
            }
        }
    }

    pub(super) fn end_abandoned_lookups(&mut self) {
        let keeping = &self.keeping;
        let given_up = |(peer, lookup): (&PeerId, &Lookup)| {
            let waits = lookup.replies.iter().any(|reply| !reply.is_closed());
            (!waits && !keeping.contains(*peer)).then_some(*peer)
        };
        let given_up: Vec<PeerId> = self.queries.lookups.iter().filter_map(given_up).collect();
        for peer in given_up {
            if let Some(lookup) = self.queries.lookups.remove(&peer) {
                self.end_lookup(&lookup);
            }
        }
    }

    fn end_lookup(&mut self, lookup: &Lookup) {
        for query in &lookup.queries {
            self.queries.searches.remove(query);
            self.end_query(*query);
        }
    }
}

fn named(peer: PeerId, addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let named = |address: Multiaddr| address.with_p2p(peer).unwrap_or_else(|address| address);
    addresses.into_iter().map(named).collect()
}
