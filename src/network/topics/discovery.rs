//! Finds others on our topics: through the DHT, and by what peers say to each other. The decisions are
//! [`TopicKeeper`]'s, [`Strangers`]' and [`Introductions`]'.
//!
//! [`TopicKeeper`]: crate::network::topic_keeper::TopicKeeper
//! [`Strangers`]: super::strangers::Strangers
//! [`Introductions`]: crate::messaging::topics::introductions::Introductions

use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{Topics, strangers::Stranger};
use crate::messaging::topics::{
    exchange::{MAX_ADDRESSES, Named},
    topic_cid,
};
use crate::network::{
    address,
    dht::{Announcer, Finder, bootstrap::DhtState},
    event_loop::EventLoop,
    topic_keeper::Task,
    wanted::Waiter,
};
use crate::platform::{is_local, time::Duration};

/// Providers taken of one search for a topic.
const MAX_FOUND: usize = 20;
/// With so many neighbours on a topic, no more are dialled for it.
const ENOUGH_NEIGHBOURS: usize = 12;

impl Topics {
    /// There may be a way to others that was not there before.
    pub(in crate::network) fn way_opened(&mut self, now: Duration) {
        self.keeper.way_opened(now);
        self.strangers.way_opened();
    }

    /// When there is something to do.
    pub(super) fn discovery_wake(&self) -> Option<Duration> {
        let rooms = self.rooms.values();
        let wakes = rooms.filter_map(|room| room.introductions.next_wake(&room.presence));
        let introductions = wakes.min().filter(|_| self.exchanges.room() > 0);
        let wakes = [self.keeper.next_wake(), self.strangers.next_wake(), introductions];
        wakes.into_iter().flatten().min()
    }
}

impl EventLoop {
    /// The addresses at which others reach this peer have changed.
    pub(in crate::network) fn on_own_addresses(&mut self) {
        let reachable = self.swarm.external_addresses().next().is_some();
        self.topics.keeper.addresses(reachable, self.now());
    }

    pub(super) fn tick_discovery(&mut self) {
        let now = self.now();
        for (topic, room) in &mut self.topics.rooms {
            let revision = room.presence.revision();
            if room.noted != revision {
                room.noted = revision;
                self.topics.keeper.alone(topic, room.presence.is_empty(), now);
            }
        }
        self.topics.keeper.ready(self.queries.state() == DhtState::Ready);
        for task in self.topics.keeper.due(now) {
            match task {
                Task::Advertise(topic) => {
                    let key = self.record_key(topic.as_deref());
                    self.announce(&key, Announcer::Topic(topic));
                }
                Task::Search(topic) => {
                    let key = self.record_key(Some(&topic));
                    self.search(&key, MAX_FOUND, Finder::Topic(topic));
                }
            }
        }
        self.dial_strangers(now);
        self.begin_exchanges(now);
    }

    /// The key of the record that says who is on a topic, or where this peer is.
    fn record_key(&self, topic: Option<&str>) -> Vec<u8> {
        match topic {
            Some(topic) => topic_cid(topic).hash().to_bytes(),
            None => self.swarm.local_peer_id().to_bytes(),
        }
    }

    pub(in crate::network) fn topic_advertised(&mut self, topic: Option<&str>, succeeded: bool) {
        let now = self.now();
        self.topics.keeper.advertised(topic, succeeded, now);
        // It was left while the query ran.
        if let Some(topic) = topic
            && !self.topics.rooms.contains_key(topic)
        {
            self.stop_advertising(topic);
        }
    }

    pub(in crate::network) fn topic_searched(&mut self, topic: &str) {
        let now = self.now();
        self.topics.keeper.searched(topic, now);
    }

    /// Servers of the DHT remember for a while what they were told.
    pub(super) fn stop_advertising(&mut self, topic: &str) {
        self.topics.keeper.unsubscribed(topic);
        let key = self.record_key(Some(topic));
        self.stop_announcing(&key);
    }

    /// The DHT says that the peer is on a topic; where it is, is in the address book.
    pub(in crate::network) fn found_on_topic(&mut self, peer: PeerId, topic: String) {
        let now = self.now();
        self.topics.strangers.found(Stranger { peer, topic, addresses: Vec::new() }, now);
    }

    /// A peer says who else is on a topic.
    pub(super) fn told_of(&mut self, teller: PeerId, topic: &str, named: Vec<Named>) {
        let (now, own) = (self.now(), *self.swarm.local_peer_id());
        // A word from outside must not send us about in here: to this machine or the local network only
        // on the word of somebody who is reached there.
        let local = self.connections.is_local(teller);
        for Named { peer, addresses } in named {
            let fits = |address: &Multiaddr| {
                address::peer_of(address).is_none_or(|named| named == peer)
                    && (local || !is_local(address))
            };
            let addresses = addresses.into_iter().filter(fits);
            let addresses = self.dialer.usable(addresses, MAX_ADDRESSES);
            let known = self.topics.rooms.get(topic).is_none_or(|r| r.presence.contains(peer));
            if peer != own && !known && !addresses.is_empty() {
                let stranger = Stranger { peer, topic: topic.to_owned(), addresses };
                self.topics.strangers.told(stranger, teller, now);
            }
        }
    }

    fn dial_strangers(&mut self, now: Duration) {
        let mut ended = 0;
        self.topics.dials.retain_mut(|answer| {
            let runs = matches!(answer.try_recv(), Err(TryRecvError::Empty));
            ended += usize::from(!runs);
            runs
        });
        (0..ended).for_each(|_| self.topics.strangers.done());
        while self.topics.strangers.next_wake().is_some_and(|at| at <= now) {
            let mut strangers = std::mem::take(&mut self.topics.strangers);
            let next = strangers.next(|stranger| self.is_of_use(stranger), now);
            self.topics.strangers = strangers;
            let Some(stranger) = next else { break };
            self.meet(stranger);
        }
    }

    /// Whether there is a point in dialling: whom a relay names, its messages reach.
    fn is_of_use(&self, stranger: &Stranger) -> bool {
        let Stranger { peer, topic, .. } = stranger;
        self.connections.best(*peer).is_none()
            && self.topics.rooms.get(topic).is_some_and(|room| !room.presence.contains(*peer))
            && self.neighbours_on(topic).len() < ENOUGH_NEIGHBOURS
    }

    /// Dials it. The addresses that others named do not go into the address book: they could push true
    /// ones out of it.
    fn meet(&mut self, stranger: Stranger) {
        let Stranger { peer, topic, addresses } = stranger;
        tracing::debug!(%peer, topic, "dialling a peer that is said to be on a topic");
        let (reply, answer) = oneshot::channel();
        self.topics.dials.push(answer);
        self.wanted.add(peer, None, Waiter::Dial(reply));
        if let Some(want) = self.wanted.get_mut(peer) {
            want.given.extend(addresses);
        }
        self.pursue(peer);
    }

    /// Those of these peers of whom we know where they are, for others: at the relays that name them, and
    /// where they say themselves.
    pub(super) fn named(&mut self, topic: &str, peers: Vec<PeerId>) -> Vec<Named> {
        let mut named = Vec::new();
        for peer in peers {
            let Some(room) = self.topics.rooms.get(topic) else { continue };
            let mut addresses = Vec::new();
            for relay in room.presence.relays_of(peer) {
                if let Some((_, at)) = self.connections.direct(relay) {
                    addresses.push(address::through_relay(&at, relay, peer));
                }
            }
            addresses.truncate(MAX_ADDRESSES / 2);
            addresses.extend(self.book.get(peer));
            if !addresses.is_empty() {
                named.push(Named { peer, addresses });
            }
        }
        named
    }
}
