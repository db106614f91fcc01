//! Finding and announcing providers and peers through the DHT (the libp2p Kademlia specification). This
//! peer is a client of it and keeps nothing for others.
//!
//! What is asked before the DHT can be waits ([`bootstrap`]), and so does what is more than
//! [`MAX_DHT_QUERIES`] at once. libp2p-kad fills the routing table by itself whenever it has few peers,
//! with those nearest to this one.

pub mod bootstrap;
mod lookup;

use std::{
    collections::HashMap,
    pin::Pin,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::Endpoint,
    kad::{
        self, AddProviderOk, GetProvidersOk, ProgressStep, QueryId, QueryResult, QueryStats,
        RecordKey,
    },
    swarm::{ConnectionId, NetworkBehaviour},
};
use tokio::sync::{mpsc, oneshot};

pub use self::lookup::FindReply;
use self::{
    bootstrap::{BOOTSTRAP_TIME, Bootstrap, DhtState, MAX_WAITING},
    lookup::Lookup,
};
use super::{
    config::{DHT_PROTOCOL, MAX_ADDRESSES_PER_PEER, MAX_DHT_KEY, MAX_DHT_QUERIES, MAX_PROVIDERS},
    error::NetworkError,
    event_loop::EventLoop,
    relay_keeper::{RelayIndex, RelayPhase},
};
use crate::{
    boxmap::{BoxMap, BoxSet},
    platform::time::Duration,
};

pub type ProvideReply = oneshot::Sender<Result<(), NetworkError>>;

/// Queries that one operation makes at most.
const QUERIES_PER_OPERATION: usize = 2;

/// Peers that are said to have something, as they are found. Dropping it ends the search.
#[derive(Debug)]
pub struct Providers(mpsc::Receiver<PeerId>);

impl Providers {
    pub async fn next(&mut self) -> Option<PeerId> {
        self.0.recv().await
    }
}

impl futures::Stream for Providers {
    type Item = PeerId;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PeerId>> {
        self.0.poll_recv(cx)
    }
}

/// What a call asks for.
#[derive(Debug)]
enum Operation {
    FindProviders { key: Vec<u8>, limit: usize, found: mpsc::Sender<PeerId> },
    Provide { key: Vec<u8>, reply: ProvideReply },
    FindPeer { peer: PeerId, reply: FindReply },
}

/// The queries under way, and the operations that wait.
#[derive(Debug, Default)]
pub struct Queries {
    bootstrap: Bootstrap<Operation>,
    /// There are peers in the routing table.
    servers: bool,
    searches: HashMap<QueryId, Search>,
    announcements: HashMap<QueryId, Announcer>,
    lookups: BoxMap<PeerId, Lookup>,
}

#[derive(Debug)]
struct Search {
    finder: Finder,
    seen: BoxSet<PeerId>,
    limit: usize,
}

/// Who looks for providers.
#[derive(Debug)]
pub(super) enum Finder {
    Call(mpsc::Sender<PeerId>),
    /// Of a topic.
    Topic(String),
    /// Of the record that says where this peer is.
    Lookup(PeerId),
}

/// Who announces.
#[derive(Debug)]
pub(super) enum Announcer {
    Call(ProvideReply),
    /// `None`: the record that says where this peer is.
    Topic(Option<String>),
}

impl Operation {
    fn given_up(&self) -> bool {
        match self {
            Self::FindProviders { found, .. } => found.is_closed(),
            Self::Provide { reply, .. } => reply.is_closed(),
            Self::FindPeer { reply, .. } => reply.is_closed(),
        }
    }

    fn fail(self, error: NetworkError) {
        // Nobody listens any more if the caller gave up. A search has nothing to say.
        match self {
            Self::FindProviders { .. } => {}
            Self::Provide { reply, .. } => drop(reply.send(Err(error))),
            Self::FindPeer { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

impl Finder {
    fn given_up(&self) -> bool {
        matches!(self, Self::Call(found) if found.is_closed())
    }
}

impl Queries {
    pub fn is_empty(&self) -> bool {
        self.running() == 0 && self.bootstrap.is_empty()
    }

    pub fn state(&self) -> DhtState {
        self.bootstrap.state()
    }

    pub fn next_wake(&self) -> Option<Duration> {
        let lookups = self.lookups.values().filter_map(Lookup::due);
        self.bootstrap.next_wake().into_iter().chain(lookups).min()
    }

    fn running(&self) -> usize {
        self.searches.len() + self.announcements.len() + self.lookups.len()
    }

    fn has_room(&self) -> bool {
        self.running() + QUERIES_PER_OPERATION <= MAX_DHT_QUERIES
    }
}

impl EventLoop {
    pub(super) fn find_providers(
        &mut self,
        key: Vec<u8>,
        limit: usize,
        reply: oneshot::Sender<Result<Providers, NetworkError>>,
    ) {
        if let Err(error) = check_key(&key).and_then(|()| self.check_waiting()) {
            let _ = reply.send(Err(error));
            return;
        }
        let limit = limit.clamp(1, MAX_PROVIDERS);
        let (found, providers) = mpsc::channel(limit);
        if reply.send(Ok(Providers(providers))).is_ok() {
            self.enqueue(Operation::FindProviders { key, limit, found });
        }
    }

    pub(super) fn provide(&mut self, key: Vec<u8>, reply: ProvideReply) {
        match check_key(&key) {
            Ok(()) => self.enqueue(Operation::Provide { key, reply }),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn check_waiting(&self) -> Result<(), NetworkError> {
        if self.queries.bootstrap.is_full() { Err(TOO_MANY_WAIT) } else { Ok(()) }
    }

    /// It runs when its turn comes, at the next tick at the earliest.
    fn enqueue(&mut self, operation: Operation) {
        if let Err(operation) = self.queries.bootstrap.push(operation) {
            operation.fail(TOO_MANY_WAIT);
        }
    }

    /// Runs what need not wait any longer.
    pub(super) fn tick_dht(&mut self) {
        let (now, servers) = (self.now(), self.queries.servers);
        let hope = !servers && now < BOOTSTRAP_TIME && self.may_meet_a_server();
        self.queries.bootstrap.look(servers, hope, now);
        if self.queries.is_empty() {
            return;
        }
        self.answer_due_lookups(now);
        self.end_abandoned_queries();
        while self.queries.has_room()
            && let Some(operation) = self.queries.bootstrap.pop()
        {
            match operation {
                Operation::FindProviders { key, limit, found } => {
                    self.search(&key, limit, Finder::Call(found));
                }
                Operation::Provide { key, reply } => self.announce(&key, Announcer::Call(reply)),
                Operation::FindPeer { peer, reply } => self.look_up(peer, Some(reply)),
            }
        }
    }

    /// The routing table has changed.
    pub(super) fn look_at_routing_table(&mut self) {
        self.queries.servers = self.swarm.behaviour_mut().kad.kbuckets().next().is_some();
    }

    /// Whether a relay that is still to come, or a peer that has not said what it speaks, could turn out to
    /// serve the DHT.
    fn may_meet_a_server(&self) -> bool {
        let dht = StreamProtocol::new(DHT_PROTOCOL);
        let mut relays = (0..).map_while(|index| self.keeper.phase(RelayIndex(index)));
        relays.any(|phase| matches!(phase, RelayPhase::Connecting | RelayPhase::Backoff { .. }))
            || self.connections.ids().any(|peer| self.connections.supports(peer, &dht).is_none())
    }

    /// Looks for providers; what is found goes to the finder.
    pub(super) fn search(&mut self, key: &[u8], limit: usize, finder: Finder) -> QueryId {
        let query = self.swarm.behaviour_mut().kad.get_providers(RecordKey::new(&key));
        self.queries.searches.insert(query, Search { finder, seen: BoxSet::new(), limit });
        query
    }

    pub(super) fn announce(&mut self, key: &[u8], announcer: Announcer) {
        match self.swarm.behaviour_mut().kad.start_providing(RecordKey::new(&key)) {
            Ok(query) => drop(self.queries.announcements.insert(query, announcer)),
            Err(error) => self.announced(announcer, Err(error.to_string())),
        }
    }

    pub(super) fn stop_announcing(&mut self, key: &[u8]) {
        self.swarm.behaviour_mut().kad.stop_providing(&RecordKey::new(&key));
    }

    /// Ends what nobody waits for any more. (An announcement is let run: the record is kept here
    /// already, and what was told cannot be taken back.)
    fn end_abandoned_queries(&mut self) {
        self.queries.bootstrap.retain(|operation| !operation.given_up());
        let abandoned: Vec<QueryId> = self
            .queries
            .searches
            .iter()
            .filter(|(_, search)| search.finder.given_up())
            .map(|(query, _)| *query)
            .collect();
        for query in abandoned {
            self.end_search(query);
        }
        self.end_abandoned_lookups();
    }

    pub(super) fn on_kad_event(&mut self, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed { id, result, stats, step } = event else {
            return self.look_at_routing_table();
        };
        match result {
            QueryResult::GetProviders(result) => {
                if let Ok(GetProvidersOk::FoundProviders { providers, .. }) = result {
                    self.on_providers(id, providers);
                }
                if step.last {
                    self.end_search(id);
                }
            }
            QueryResult::StartProviding(result) => self.on_announced(id, &result, &stats, &step),
            QueryResult::GetClosestPeers(result) => self.on_closest_peers(id, result, step.last),
            _ => {}
        }
    }

    fn on_providers(&mut self, query: QueryId, providers: impl IntoIterator<Item = PeerId>) {
        let finder = self.queries.searches.get(&query).map(|search| &search.finder);
        if let Some(&Finder::Lookup(wanted)) = finder {
            // Each answer may say something else, be it as the place of a provider or of one that is nearer.
            return self.look_at_queries(wanted);
        }
        let own = *self.swarm.local_peer_id();
        for peer in providers {
            let Some(search) = self.queries.searches.get_mut(&query) else { return };
            if peer == own || !search.seen.insert(peer) {
                continue;
            }
            if search.finder.given_up() {
                return self.end_search(query);
            }
            let full = search.seen.len() >= search.limit;
            let addresses = self.dht_addresses(peer, MAX_ADDRESSES_PER_PEER);
            // The book puts what comes last first.
            for address in addresses.iter().rev() {
                self.book.add(peer, address.clone());
            }
            match self.queries.searches.get(&query).map(|search| &search.finder) {
                // There is room for as many as were asked for.
                Some(Finder::Call(found)) => drop(found.try_send(peer)),
                Some(Finder::Topic(topic)) => {
                    let topic = topic.clone();
                    self.found_on_topic(peer, topic);
                }
                Some(Finder::Lookup(_)) | None => return,
            }
            if full {
                return self.end_search(query);
            }
        }
    }

    fn on_announced(
        &mut self,
        query: QueryId,
        result: &Result<AddProviderOk, kad::AddProviderError>,
        stats: &QueryStats,
        step: &ProgressStep,
    ) {
        if !step.last {
            return;
        }
        let Some(announcer) = self.queries.announcements.remove(&query) else { return };
        let outcome = match result {
            Ok(_) if stats.num_successes() > 0 => Ok(()),
            Ok(_) => Err("no peer that serves the DHT is known or answers".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        self.announced(announcer, outcome);
    }

    fn announced(&mut self, announcer: Announcer, outcome: Result<(), String>) {
        match announcer {
            Announcer::Call(reply) => {
                let failed = |reason| NetworkError::NotAnnounced { reason };
                let _ = reply.send(outcome.map_err(failed));
            }
            Announcer::Topic(topic) => self.topic_advertised(topic.as_deref(), outcome.is_ok()),
        }
    }

    /// Where the answers to running queries say that a peer is, best first, at most `limit`. libp2p-kad keeps that to
    /// itself until somebody dials, so it is asked as for a dial; the id of that is of no account there.
    fn dht_addresses(&mut self, peer: PeerId, limit: usize) -> Vec<Multiaddr> {
        let dial = ConnectionId::new_unchecked(0);
        let kad = &mut self.swarm.behaviour_mut().kad;
        let addresses = kad
            .handle_pending_outbound_connection(dial, Some(peer), &[], Endpoint::Dialer)
            .unwrap_or_default();
        self.dialer.usable(addresses.into_iter().take(4 * limit), limit)
    }

    /// A search has ended, or is ended now.
    fn end_search(&mut self, query: QueryId) {
        let Some(search) = self.queries.searches.remove(&query) else { return };
        self.end_query(query);
        match search.finder {
            Finder::Call(_) => {}
            Finder::Topic(topic) => self.topic_searched(&topic),
            Finder::Lookup(peer) => self.lookup_ended(peer, query),
        }
    }

    fn end_query(&mut self, query: QueryId) {
        if let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&query) {
            query.finish();
        }
    }
}

fn check_key(key: &[u8]) -> Result<(), NetworkError> {
    if key.len() <= MAX_DHT_KEY {
        return Ok(());
    }
    Err(NetworkError::TooMany { what: "bytes of a key of the DHT", limit: MAX_DHT_KEY })
}

const TOO_MANY_WAIT: NetworkError =
    NetworkError::TooMany { what: "operations of the DHT", limit: MAX_WAITING };
