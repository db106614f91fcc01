//! Peer routing: where a peer is, as far as the DHT knows.
//!
//! Two things are asked together. Servers that know the peer name it among those nearest to its id. And
//! peers of ours, which serve no DHT and are named by none, announce themselves under the multihash that
//! is their id, as providers of it, with the addresses at which they are reached.
//!
//! An answer may be a lie, or old. So the first one ends nothing: a call waits a little for others, and a
//! search for a kept peer runs to its end.

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
use crate::platform::time::Duration;

/// How long a call waits for other answers after the first.
const GATHER_TIME: Duration = Duration::from_secs(1);
/// Addresses of one peer that a call gets at most: those of several answers.
const MAX_FOUND: usize = 4 * MAX_ADDRESSES_PER_PEER;

/// Where the addresses of a peer go, its id at the end of each.
pub type FindReply = oneshot::Sender<Result<Vec<Multiaddr>, NetworkError>>;

/// A peer that is looked for.
#[derive(Debug)]
pub struct Lookup {
    /// Those under way.
    queries: Vec<QueryId>,
    replies: Vec<FindReply>,
    /// What the answers said, the peer's id at the end of each.
    found: Vec<Multiaddr>,
    /// When the calls are answered, once something was found.
    due: Option<Duration>,
}

impl Lookup {
    fn new(queries: Vec<QueryId>, reply: Option<FindReply>) -> Self {
        let replies = reply.into_iter().collect();
        Self { queries, replies, found: Vec::new(), due: None }
    }

    /// Takes an answer; returns what of it is new.
    fn add(&mut self, addresses: Vec<Multiaddr>, now: Duration) -> Vec<Multiaddr> {
        let room = (MAX_FOUND - self.found.len()).min(MAX_ADDRESSES_PER_PEER);
        let mut new = addresses;
        new.retain(|address| !self.found.contains(address));
        new.truncate(room);
        if !new.is_empty() {
            self.due.get_or_insert(now + GATHER_TIME);
            self.found.extend(new.iter().cloned());
        }
        new
    }

    /// When somebody is to be answered.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due.filter(|_| !self.replies.is_empty())
    }
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
        self.queries.lookups.insert(peer, Lookup::new(vec![closest, record], reply));
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
        let addresses = self.dht_addresses(peer, MAX_FOUND);
        self.found_at(peer, addresses);
    }

    fn found_at(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let now = self.now();
        let Some(lookup) = self.queries.lookups.get_mut(&peer) else { return };
        let new = lookup.add(named(peer, addresses), now);
        if new.is_empty() {
            return;
        }
        // The book puts what comes last first.
        for address in new.into_iter().rev() {
            self.book.add(peer, address);
        }
        self.keeping.found(peer, now);
    }

    /// Answers the calls that have waited long enough for further answers.
    pub(super) fn answer_due_lookups(&mut self, now: Duration) {
        let due = self.queries.lookups.iter().filter(|(_, l)| l.due().is_some_and(|at| at <= now));
        let due: Vec<PeerId> = due.map(|(peer, _)| *peer).collect();
        for peer in due {
            self.look_at_queries(peer);
            self.answer_lookup(peer);
        }
    }

    fn answer_lookup(&mut self, peer: PeerId) {
        let Some(lookup) = self.queries.lookups.get_mut(&peer) else { return };
        let found = self.dialer.usable(lookup.found.iter().cloned(), MAX_FOUND);
        for reply in lookup.replies.drain(..) {
            let answer = if found.is_empty() {
                Err(NetworkError::PeerNotFound { peer })
            } else {
                Ok(found.clone())
            };
            let _ = reply.send(answer);
        }
    }

    /// One of the queries for a peer has ended.
    pub(super) fn lookup_ended(&mut self, peer: PeerId, query: QueryId) {
        let Some(lookup) = self.queries.lookups.get_mut(&peer) else { return };
        lookup.queries.retain(|id| *id != query);
        if lookup.queries.is_empty() {
            self.answer_lookup(peer);
            self.queries.lookups.remove(&peer);
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

/// The addresses with the peer's id at the end of each, but for those that name another.
fn named(peer: PeerId, addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    addresses.into_iter().filter_map(|address| address.with_p2p(peer).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(ports: std::ops::Range<usize>) -> Vec<Multiaddr> {
        let address = |port| format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address");
        ports.map(address).collect()
    }

    const NOW: Duration = Duration::from_secs(7);

    #[test]
    fn calls_wait_a_little_after_the_first_answer_for_others() {
        let (reply, _answer) = oneshot::channel();
        let mut lookup = Lookup::new(Vec::new(), Some(reply));
        assert_eq!(lookup.add(Vec::new(), NOW), []);
        assert_eq!(lookup.due(), None, "nothing was found yet");
        assert_eq!(lookup.add(addresses(1..2), NOW), addresses(1..2));
        assert_eq!(lookup.add(addresses(1..4), 2 * NOW), addresses(2..4));
        assert_eq!(lookup.due(), Some(NOW + GATHER_TIME));
        assert_eq!(lookup.found, addresses(1..4));
        lookup.replies.clear();
        assert_eq!(lookup.due(), None, "nobody waits");
    }

    #[test]
    fn one_answer_does_not_fill_it_and_many_are_bounded() {
        let mut lookup = Lookup::new(Vec::new(), None);
        assert_eq!(lookup.add(addresses(1..100), NOW).len(), MAX_ADDRESSES_PER_PEER);
        assert_eq!(lookup.add(addresses(100..101), NOW), addresses(100..101));
        for first in 2..10 {
            lookup.add(addresses(100 * first..100 * first + 100), NOW);
        }
        assert_eq!(lookup.found.len(), MAX_FOUND);
        assert_eq!(lookup.add(addresses(1..2), NOW), []);
    }

    #[test]
    fn what_names_another_peer_is_left_out() {
        let [peer, other] = [(); 2].map(|()| PeerId::random());
        let [plain, wrong] = addresses(1..3).try_into().expect("two");
        let right = plain.clone().with_p2p(peer).expect("none yet");
        let wrong = wrong.with_p2p(other).expect("none yet");
        assert_eq!(named(peer, vec![plain, wrong, right.clone()]), [right.clone(), right]);
    }
}
