//! Finding and announcing providers through the DHT (the libp2p Kademlia specification, "Content
//! provider advertisement and discovery"). This peer is a client of it and keeps nothing for others.

use crate::boxmap::BoxSet;
use std::{
    collections::HashMap,
    pin::Pin,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::Endpoint,
    kad::{
        self, AddProviderOk, GetProvidersOk, ProgressStep, QueryId, QueryResult, QueryStats,
        RecordKey,
    },
    swarm::{ConnectionId, NetworkBehaviour},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    config::{MAX_ADDRESSES_PER_PEER, MAX_DHT_KEY, MAX_DHT_QUERIES, MAX_PROVIDERS},
    error::NetworkError,
    event_loop::EventLoop,
};

pub type ProvideReply = oneshot::Sender<Result<(), NetworkError>>;

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

/// The queries under way.
#[derive(Debug, Default)]
pub struct Queries {
    searches: HashMap<QueryId, Search>,
    announcements: HashMap<QueryId, ProvideReply>,
}

#[derive(Debug)]
struct Search {
    found: mpsc::Sender<PeerId>,
    seen: BoxSet<PeerId>,
    limit: usize,
}

impl Queries {
    pub fn is_empty(&self) -> bool {
        self.searches.is_empty() && self.announcements.is_empty()
    }

    fn is_full(&self) -> bool {
        self.searches.len() + self.announcements.len() >= MAX_DHT_QUERIES
    }
}

const TOO_MANY: NetworkError =
    NetworkError::TooMany { what: "queries of the DHT", limit: MAX_DHT_QUERIES };

impl EventLoop {
    pub(super) fn find_providers(
        &mut self,
        key: &[u8],
        limit: usize,
        reply: oneshot::Sender<Result<Providers, NetworkError>>,
    ) {
        if self.queries.is_full() || key.len() > MAX_DHT_KEY {
            let _ = reply.send(Err(TOO_MANY));
            return;
        }
        let limit = limit.clamp(1, MAX_PROVIDERS);
        let (found, providers) = mpsc::channel(limit);
        if reply.send(Ok(Providers(providers))).is_ok() {
            let query = self.swarm.behaviour_mut().kad.get_providers(RecordKey::new(&key));
            let search = Search { found, seen: BoxSet::new(), limit };
            self.queries.searches.insert(query, search);
        }
    }

    pub(super) fn provide(&mut self, key: &[u8], reply: ProvideReply) {
        if self.queries.is_full() || key.len() > MAX_DHT_KEY {
            let _ = reply.send(Err(TOO_MANY));
            return;
        }
        match self.swarm.behaviour_mut().kad.start_providing(RecordKey::new(&key)) {
            Ok(query) => drop(self.queries.announcements.insert(query, reply)),
            Err(error) => {
                let _ = reply.send(Err(NetworkError::NotAnnounced { reason: error.to_string() }));
            }
        }
    }

    /// Ends the searches that nobody waits for any more. (An announcement is let run: the record
    /// is kept here already, and what was told cannot be taken back.)
    pub(super) fn end_abandoned_queries(&mut self) {
        let abandoned: Vec<QueryId> = self
            .queries
            .searches
            .iter()
            .filter(|(_, search)| search.found.is_closed())
            .map(|(query, _)| *query)
            .collect();
        for query in abandoned {
            self.end_search(query);
        }
    }

    pub(super) fn on_kad_event(&mut self, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed { id, result, stats, step } = event else { return };
        match result {
            QueryResult::GetProviders(result) => {
                if let Ok(GetProvidersOk::FoundProviders { providers, .. }) = result {
                    self.on_providers(id, providers);
                }
                if step.last {
                    self.queries.searches.remove(&id);
                }
            }
            QueryResult::StartProviding(result) => self.on_announced(id, &result, &stats, &step),
            QueryResult::GetClosestPeers(result) => self.on_looked_up(id, result, step.last),
            _ => {}
        }
    }

    fn on_providers(&mut self, query: QueryId, providers: impl IntoIterator<Item = PeerId>) {
        let own = *self.swarm.local_peer_id();
        for peer in providers {
            let Some(search) = self.queries.searches.get_mut(&query) else { return };
            if peer == own || !search.seen.insert(peer) {
                continue;
            }
            let given_up = search.found.is_closed();
            if !given_up {
                for address in self.dht_addresses(peer) {
                    self.book.add(peer, address);
                }
            }
            let Some(search) = self.queries.searches.get_mut(&query) else { return };
            // There is room for as many as were asked for.
            if given_up || search.found.try_send(peer).is_err() || search.seen.len() >= search.limit
            {
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
        let Some(reply) = self.queries.announcements.remove(&query) else { return };
        let failed = |reason: &str| Err(NetworkError::NotAnnounced { reason: reason.to_owned() });
        let _ = reply.send(match result {
            Ok(_) if stats.num_successes() > 0 => Ok(()),
            Ok(_) => failed("no peer that serves the DHT is known or answers"),
            Err(error) => failed(&error.to_string()),
        });
    }

    /// Where the answers to running queries say that a peer is. libp2p-kad keeps that to itself
    /// until somebody dials, so it is asked as for a dial; the id of that is of no account there.
    fn dht_addresses(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        let dial = ConnectionId::new_unchecked(0);
        let kad = &mut self.swarm.behaviour_mut().kad;
        let addresses = kad
            .handle_pending_outbound_connection(dial, Some(peer), &[], Endpoint::Dialer)
            .unwrap_or_default();
        let addresses = addresses.into_iter().take(4 * MAX_ADDRESSES_PER_PEER);
        let mut usable = self.dialer.usable(addresses, MAX_ADDRESSES_PER_PEER);
        // The book puts what comes last first.
        usable.reverse();
        usable
    }

    fn end_search(&mut self, query: QueryId) {
        self.queries.searches.remove(&query);
        if let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&query) {
            query.finish();
        }
    }
}
