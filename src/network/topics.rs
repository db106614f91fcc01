//! Topics over gossipsub: the event loop's part of [`crate::messaging::topics`].
//!
//! A topic that somebody here subscribes to is a [`Room`]: who is there, and the queues of the
//! subscriptions. Who is there is told by the neighbours themselves and by the relays
//! ([`roster`](crate::messaging::topics::roster)), over a stream that is opened with each connected
//! relay that speaks it while there is a room. A relay is nobody in a room: it carries the topic.

mod discovery;
mod exchanges;
mod heard;
mod publishing;
mod rosters;
mod strangers;

use std::sync::Arc;

use libp2p::{
    PeerId,
    gossipsub::{IdentTopic, TopicHash},
};
use tokio::sync::{Notify, oneshot, watch};

use self::{
    exchanges::Exchanges,
    publishing::{Outbox, Publishing, Waiting},
    rosters::Rosters,
    strangers::Strangers,
};
use super::{
    IncomingStreams, Network, NetworkError, command::Command, event_loop::EventLoop, gossip::Gate,
    streams::Stream, topic_keeper::TopicKeeper,
};
use crate::boxmap::{BoxMap, BoxSet};
use crate::messaging::{
    direct::Value,
    topics::{
        Change, HEARTBEAT, MAX_SUBSCRIPTIONS, MAX_TOPICS, MESH_WAIT, Queue, Subscription,
        TopicError, check_name,
        introductions::Introductions,
        judge::Judge,
        payload,
        presence::{Presence, Source},
        roster,
    },
};
use crate::platform::time::Duration;

/// How often the mesh is looked at while somebody waits for it: gossipsub does not tell.
const MESH_LOOK: Duration = Duration::from_millis(250);

/// The topics that this peer is subscribed to, sorted; follows every change.
pub type SubscribedTopics = watch::Receiver<Arc<Vec<String>>>;

type Reply<T> = oneshot::Sender<Result<T, TopicError>>;

/// What is asked of the event loop.
#[derive(Debug)]
pub enum Request {
    Subscribe { topic: String, queue: Arc<Queue>, reply: Reply<()> },
    Peers { topic: String, reply: oneshot::Sender<Vec<PeerId>> },
}

/// The event loop's state.
pub struct Topics {
    gate: Gate,
    rooms: BoxMap<String, Room>,
    /// How many of them wait for their mesh.
    forming: usize,
    judge: Judge,
    /// How many topics each neighbour has said it is on.
    neighbours: BoxMap<PeerId, u32>,
    rosters: Rosters,
    keeper: TopicKeeper,
    strangers: Strangers,
    /// Of strangers.
    dials: Vec<oneshot::Receiver<Result<PeerId, NetworkError>>>,
    exchanges: Exchanges,
    publishing: Publishing,
    shared: Shared,
    names: watch::Sender<Arc<Vec<String>>>,
}

/// What the handles share with the event loop.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    /// Told when a subscription is dropped.
    dropped: Arc<Notify>,
    outbox: Arc<Outbox>,
}

#[derive(Default)]
struct Room {
    presence: Presence,
    /// The revision of the presence that the keeper was told of.
    noted: u64,
    introductions: Introductions,
    queues: Vec<Arc<Queue>>,
    forming: Option<Forming>,
    /// The neighbours on the topic, relays and others.
    neighbours: BoxSet<PeerId>,
}

/// A mesh that is waited for.
struct Forming {
    until: Duration,
    found: bool,
    replies: Vec<Reply<()>>,
}

/// What [`Topics::next`] waits for.
pub(super) enum Happened {
    /// A subscription was dropped.
    Dropped,
    Roster(rosters::Report),
    /// A peer begins an exchange.
    Asking(PeerId, Stream),
    Exchange(exchanges::Report),
    /// There is something to publish.
    Publishing,
}

impl Network {
    /// Subscribes to a topic. Resolves when messages can be expected to come: there is a mesh, and
    /// one heartbeat has passed; or after [`MESH_WAIT`].
    pub async fn subscribe(&self, topic: &str) -> Result<Subscription, TopicError> {
        check_name(topic)?;
        let queue = Arc::new(Queue::new(self.0.shared.dropped.clone()));
        // Whoever gives up the call drops it, and that unsubscribes.
        let subscription = Subscription::new(topic.to_owned(), queue.clone());
        let topic = topic.to_owned();
        self.topics(|reply| Request::Subscribe { topic, queue, reply }).await??;
        Ok(subscription)
    }

    /// Publishes a message; waits its turn if there are many. Whether it went to anybody: a relay
    /// counts, and then nobody may have subscribed behind it. Messages go out in the order of the
    /// calls; dropping the future takes the message back if it has not gone out yet.
    pub fn publish(
        &self,
        topic: &str,
        value: Value,
    ) -> impl Future<Output = Result<bool, TopicError>> + use<> {
        let (reply, answer) = oneshot::channel();
        let pushed = check_name(topic).and_then(|()| payload::encode(value)).and_then(|data| {
            let topic = TopicHash::from_raw(topic);
            self.0.shared.outbox.push(Waiting { topic, data, reply })
        });
        async move {
            pushed?;
            answer.await.unwrap_or(Err(TopicError::Closed))
        }
    }

    /// Who is known to be on a topic. Of one that this peer has not subscribed to, it knows its
    /// neighbours only.
    pub async fn topic_peers(&self, topic: &str) -> Result<Vec<PeerId>, TopicError> {
        let topic = topic.to_owned();
        self.topics(|reply| Request::Peers { topic, reply }).await
    }

    async fn topics<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, TopicError> {
        let answer = self.call(|reply| Command::Topics(request(reply))).await;
        answer.map_err(|_| TopicError::Closed)
    }
}

impl Topics {
    pub fn new(
        gate: Gate,
        shared: Shared,
        names: watch::Sender<Arc<Vec<String>>>,
        incoming: IncomingStreams,
        seed: u64,
    ) -> Self {
        Self {
            gate,
            rooms: BoxMap::new(),
            forming: 0,
            judge: Judge::default(),
            neighbours: BoxMap::new(),
            rosters: Rosters::new(),
            keeper: TopicKeeper::new(seed),
            strangers: Strangers::default(),
            dials: Vec::new(),
            exchanges: Exchanges::new(incoming),
            publishing: Publishing::new(shared.outbox.clone()),
            shared,
            names,
        }
    }

    pub(super) async fn next(&mut self) -> Happened {
        tokio::select! {
            () = self.shared.dropped.notified() => Happened::Dropped,
            () = self.publishing.woken() => Happened::Publishing,
            report = self.rosters.next() => Happened::Roster(report),
            happened = self.exchanges.next() => happened,
        }
    }

    /// When there is something to do.
    pub(super) fn next_wake(&self, now: Duration) -> Option<Duration> {
        let forming = (self.forming > 0).then(|| now + MESH_LOOK);
        let presence = self.rooms.values().filter_map(|room| room.presence.next_wake()).min();
        let rosters = if self.rooms.is_empty() { None } else { self.rosters.next_wake() };
        let others = [presence, rosters, self.judge.next_wake(), self.publishing.next_wake()];
        let others = others.into_iter().chain([self.discovery_wake()]);
        others.flatten().chain(forming).min()
    }

    pub(super) fn close(&mut self) {
        for room in self.rooms.values() {
            room.queues.iter().for_each(|queue| queue.close());
        }
        self.rooms.clear();
        self.dials.clear();
        self.publishing.close();
        self.names.send_replace(Arc::default());
    }

    fn tell_names(&self) {
        self.names.send_replace(Arc::new(self.rooms.keys().cloned().collect()));
    }
}

impl Room {
    fn tell(&self, change: Option<Change>) {
        if let Some(change) = change {
            self.queues.iter().for_each(|queue| queue.change(change));
        }
    }

    fn deliver(&self, from: PeerId, value: Value) {
        let Some((last, others)) = self.queues.split_last() else { return };
        for queue in others {
            queue.message(from, value.clone());
        }
        last.message(from, value);
    }
}

impl EventLoop {
    pub(super) fn on_topics(&mut self, request: Request) {
        match request {
            Request::Subscribe { topic, queue, reply } => self.subscribe(topic, queue, reply),
            Request::Peers { topic, reply } => {
                let peers = match self.topics.rooms.get(&topic) {
                    Some(room) => room.presence.members().collect(),
                    None => self.neighbours_on(&topic),
                };
                let _ = reply.send(peers);
            }
        }
    }

    fn subscribe(&mut self, topic: String, queue: Arc<Queue>, reply: Reply<()>) {
        if queue.is_closed() {
            // Given up before it came here; it was told of too early.
            return;
        }
        let too_many = |what, limit| Err(TopicError::TooMany { what, limit });
        if let Some(room) = self.topics.rooms.get_mut(&topic) {
            if room.queues.len() >= MAX_SUBSCRIPTIONS {
                let _ = reply.send(too_many("subscriptions to one topic", MAX_SUBSCRIPTIONS));
                return;
            }
            for peer in room.presence.members() {
                queue.change(Change { peer, joined: true });
            }
            room.queues.push(queue);
            match &mut room.forming {
                Some(forming) => forming.replies.push(reply),
                None => drop(reply.send(Ok(()))),
            }
            return;
        }
        if self.topics.rooms.len() >= MAX_TOPICS {
            let _ = reply.send(too_many("topics", MAX_TOPICS));
            return;
        }
        self.topics.gate.open(&topic);
        // It refuses names that are too long, and those were refused before.
        let _ = self.swarm.behaviour_mut().gossipsub.subscribe(&IdentTopic::new(topic.clone()));
        let until = self.now() + MESH_WAIT;
        let forming = Some(Forming { until, found: false, replies: vec![reply] });
        let mut room = Room { queues: vec![queue], forming, ..Room::default() };
        for peer in self.subscribers_of(&topic) {
            room.neighbours.insert(peer);
            if self.is_member(peer) {
                let change = room.presence.seen(peer, Source::Itself);
                room.tell(change);
            }
        }
        self.topics.keeper.subscribed(&topic, self.now());
        self.topics.rooms.insert(topic, room);
        self.topics.forming += 1;
        self.topics.tell_names();
        self.open_rosters();
    }

    /// Neighbours on a topic, relays left out.
    fn neighbours_on(&self, topic: &str) -> Vec<PeerId> {
        let mut neighbours = self.subscribers_of(topic);
        neighbours.retain(|peer| self.is_member(*peer));
        neighbours
    }

    /// Neighbours on a topic, relays and others.
    fn subscribers_of(&self, topic: &str) -> Vec<PeerId> {
        if let Some(room) = self.topics.rooms.get(topic) {
            return room.neighbours.iter().copied().collect();
        }
        let topic = TopicHash::from_raw(topic);
        let peers = self.swarm.behaviour().gossipsub.all_peers();
        peers.filter_map(|(peer, topics)| topics.contains(&&topic).then_some(*peer)).collect()
    }

    /// Whether a neighbour that subscribes is somebody, and no relay. Until it has said what it
    /// speaks, it is not.
    fn is_member(&self, peer: PeerId) -> bool {
        self.keeper.index_of(peer).is_none()
            && self.connections.supports(peer, &roster::PROTOCOL) == Some(false)
    }

    pub(super) fn on_topics_happened(&mut self, happened: Happened) {
        match happened {
            Happened::Dropped => self.sweep_rooms(),
            Happened::Roster(report) => self.on_roster(report),
            Happened::Asking(peer, stream) => self.on_asking(peer, stream),
            Happened::Exchange(report) => self.on_exchange(report),
            // By the tick that comes now.
            Happened::Publishing => {}
        }
    }

    /// Leaves the rooms that nobody listens to any more.
    fn sweep_rooms(&mut self) {
        let mut empty = Vec::new();
        for (topic, room) in &mut self.topics.rooms {
            room.queues.retain(|queue| !queue.is_closed());
            if room.queues.is_empty() {
                empty.push(topic.clone());
            }
        }
        for topic in &empty {
            if let Some(room) = self.topics.rooms.remove(topic) {
                self.topics.forming -= usize::from(room.forming.is_some());
            }
            self.topics.gate.shut(topic);
            self.forget_held(topic);
            self.stop_advertising(topic);
            self.swarm.behaviour_mut().gossipsub.unsubscribe(&IdentTopic::new(topic.clone()));
        }
        if !empty.is_empty() {
            self.topics.tell_names();
        }
    }

    pub(super) fn tick_topics(&mut self) {
        let now = self.now();
        self.publish_waiting();
        for peer in self.topics.judge.pardoned(now) {
            self.swarm.behaviour_mut().gossipsub.set_application_score(&peer, 0.0);
        }
        self.tick_discovery();
        if self.topics.rooms.is_empty() {
            return;
        }
        if self.topics.rosters.next_wake().is_some_and(|at| at <= now) {
            self.open_rosters();
        }
        let gossipsub = &self.swarm.behaviour().gossipsub;
        for (topic, room) in &mut self.topics.rooms {
            if room.presence.next_wake().is_some_and(|at| at <= now) {
                for change in room.presence.tick(now) {
                    room.tell(Some(change));
                }
            }
            let Some(forming) = &mut room.forming else { continue };
            let topic = TopicHash::from_raw(topic.as_str());
            if !forming.found && gossipsub.mesh_peers(&topic).next().is_some() {
                forming.found = true;
                forming.until = forming.until.min(now + HEARTBEAT);
            }
            if forming.until <= now
                && let Some(forming) = room.forming.take()
            {
                self.topics.forming -= 1;
                for reply in forming.replies {
                    let _ = reply.send(Ok(()));
                }
            }
        }
    }
}
