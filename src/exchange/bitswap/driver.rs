//! The task that owns the client and the server, and runs them over the network and the store.
//!
//! It never waits for anybody: reading, hashing, writing, dialling and looking up are tasks of their
//! own, which report as [`Event`]s.

mod contact;
mod events;
mod lookup;
mod reader;
mod writer;

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use libp2p::{PeerId, StreamProtocol};
use tokio::sync::mpsc;

use self::{
    contact::{Contact, WriterHandle},
    events::Event,
    reader::Gate,
    writer::{WRITE_QUEUE, Writer},
};
use super::{
    Hub, PeerTraffic,
    client::{Action, Client, ClientConfig, SessionId},
    message::PROTOCOL,
    server::Server,
    session::{Line, Work, lock},
};
use crate::boxmap::{BoxMap, BoxSet};
use crate::{
    network::{IncomingStreams, PeerStreams, PeersWatch, Stream},
    platform::{
        task,
        time::{self, Duration, Instant},
    },
    store::{Change, Changes, Store},
};

/// A stream on which nothing moves for this long in the middle of a message is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Reports that wait for the driver.
const EVENT_QUEUE: usize = 64;
/// Lookups at a time.
const MAX_LOOKUPS: usize = 3;
/// Providers that are being dialled.
const MAX_DIALS: usize = 8;
/// Providers that wait to be dialled; more are left to the other peers.
const MAX_QUEUED_DIALS: usize = 256;

struct Driver {
    hub: Arc<Hub>,
    streams: Arc<dyn PeerStreams>,
    store: Store,
    client: Client,
    server: Server,
    sessions: HashMap<SessionId, Arc<Line>>,
    contacts: HashMap<PeerId, Contact>,
    /// Those that something may have to be written to.
    talkative: BoxSet<PeerId>,
    /// Inbound streams of each peer.
    readers: HashMap<PeerId, (usize, Gate)>,
    gate: Gate,
    /// There are sessions.
    asking: Arc<AtomicBool>,
    dialling: BoxSet<PeerId>,
    to_dial: VecDeque<PeerId>,
    lookups: usize,
    writers: u64,
    events: mpsc::Sender<Event>,
    started: Instant,
    timer: Option<(Duration, Pin<Box<time::Sleep>>)>,
}

impl Driver {
    fn new(
        hub: Arc<Hub>,
        streams: Arc<dyn PeerStreams>,
        store: Store,
    ) -> (Self, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel(EVENT_QUEUE);
        let driver = Self {
            hub,
            streams,
            store,
            client: Client::new(ClientConfig::default()),
            server: Server::new(),
            sessions: HashMap::new(),
            contacts: HashMap::new(),
            talkative: BoxSet::new(),
            readers: HashMap::new(),
            gate: Gate::new(),
            asking: Arc::default(),
            dialling: BoxSet::new(),
            to_dial: VecDeque::new(),
            lookups: 0,
            writers: 0,
            events,
            started: Instant::now(),
            timer: None,
        };
        (driver, received)
    }
}

/// Runs until the network is closed or nobody is left who might ask.
pub(super) async fn run(
    hub: Arc<Hub>,
    streams: Arc<dyn PeerStreams>,
    store: Store,
    mut incoming: IncomingStreams,
) {
    let mut peers = streams.peers();
    let mut changes = Some(store.changes());
    let (mut driver, mut events) = Driver::new(hub.clone(), streams, store);
    driver.meet(&peers);
    while !hub.is_closed() {
        driver.work();
        driver.set_timer();
        let timer = driver.timer.as_mut().map(|(_, sleep)| sleep.as_mut());
        tokio::select! {
            Some(event) = events.recv() => {
                driver.on_event(event, &peers);
                // Together they make larger messages.
                for _ in 0..EVENT_QUEUE {
                    let Ok(event) = events.try_recv() else { break };
                    driver.on_event(event, &peers);
                }
            }
            () = hub.wake.notified() => {
                // Who asks may know of a peer that has only just come.
                driver.meet(&peers);
                driver.take_work();
            }
            changed = peers.changed() => match changed {
                Some(_) => driver.meet(&peers),
                None => break,
            },
            stream = incoming.next() => match stream {
                Some((peer, stream)) => driver.read(peer, stream),
                None => break,
            },
            change = next_change(&mut changes) => match change {
                Some(Change::Stored(cids)) => driver.server.stored(&cids),
                Some(Change::Lagged) => driver.server.stored_unknown(),
                None => changes = None,
            },
            () = async { match timer { Some(sleep) => sleep.await, None => pending().await } } => {
                driver.timer = None;
                let now = driver.now();
                driver.client.tick(now);
                driver.meet(&peers);
            }
        }
    }
    driver.end();
}

impl Driver {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Who is connected now, and may be asked.
    fn meet(&mut self, peers: &PeersWatch) {
        let now = self.now();
        let peers = peers.current();
        for (peer, info) in &*peers {
            let contact = self.contacts.entry(*peer).or_default();
            contact.update(info);
            if contact.limited {
                self.server.disconnected(*peer);
            }
            self.tell(*peer, now);
        }
        let gone = |peer: &&PeerId| !peers.contains_key(*peer);
        let gone: Vec<PeerId> = self.contacts.keys().filter(gone).copied().collect();
        for peer in gone {
            // The writer ends when its queue does. A session may wait for one that never was told of.
            self.contacts.remove(&peer);
            self.client.disconnected(peer, now);
            self.server.disconnected(peer);
        }
    }

    /// Tells the client if a peer has become one that may be asked, or is none any more.
    fn tell(&mut self, peer: PeerId, now: Duration) {
        let Some(contact) = self.contacts.get_mut(&peer) else { return };
        let may = contact.may_be_asked(now);
        if may && !contact.told {
            contact.retry_at = None;
            self.client.connected(peer, now);
        } else if !may && (contact.told || (contact.refuses() && !contact.written_off)) {
            self.client.disconnected(peer, now);
        } else if contact.is_stranger() && !std::mem::replace(&mut contact.met, true) {
            self.client.met(peer, now);
        }
        (contact.told, contact.written_off) = (may, contact.refuses());
    }

    /// What the sessions have left.
    fn take_work(&mut self) {
        for line in std::mem::take(&mut *lock(&self.hub.opened)) {
            self.sessions.insert(self.client.open(), line);
        }
        let work = |(id, line): (&SessionId, &Arc<Line>)| Some((*id, line.take_work()?));
        let work: Vec<(SessionId, Work)> = self.sessions.iter().filter_map(work).collect();
        for (id, work) in work {
            self.take_session_work(id, work);
        }
        self.asking.store(!self.sessions.is_empty(), Ordering::Relaxed);
        let callers = std::mem::take(&mut *lock(&self.hub.stats_callers));
        for caller in callers {
            let of = |(peer, contact): (&PeerId, &Contact)| {
                let client = self.client.stats(peer).unwrap_or_default();
                (*peer, PeerTraffic { client, ..contact.traffic })
            };
            let stats: BoxMap<_, _> = self.contacts.iter().map(of).collect();
            let _ = caller.send(stats);
        }
    }

    fn take_session_work(&mut self, id: SessionId, work: Work) {
        let now = self.now();
        if work.dropped {
            self.sessions.remove(&id);
            return self.client.close(id);
        }
        if let Some(only) = work.providers_only {
            self.client.providers_only(id, only, now);
        }
        for (peer, score) in work.providers {
            self.client.add_provider(id, peer, score, now);
            let comes = match self.contacts.get(&peer) {
                Some(contact) => !contact.refuses(),
                None => self.dial(peer),
            };
            if !comes {
                // Or the session would wait for it.
                self.client.disconnected(peer, now);
            }
        }
        if !work.cancels.is_empty() {
            let cancels: Vec<_> = work.cancels.into_iter().collect();
            self.client.cancel(id, &cancels);
        }
        if !work.wants.is_empty()
            && self.client.want(id, &work.wants, now).is_err()
            && let Some(line) = self.sessions.get(&id)
        {
            line.exhausted(&work.wants);
        }
    }

    /// Whether it is being dialled now.
    fn dial(&mut self, peer: PeerId) -> bool {
        if self.dialling.contains(&peer) || self.to_dial.contains(&peer) {
            return true;
        }
        let may = self.to_dial.len() < MAX_QUEUED_DIALS && peer != self.streams.peer_id();
        if may {
            self.to_dial.push_back(peer);
        }
        may
    }

    /// Does what the client and the server have decided.
    fn work(&mut self) {
        let now = self.now();
        while let Some(action) = self.client.next_action() {
            match action {
                Action::Send { peer, wants, full } => {
                    let Some(contact) = self.contacts.get_mut(&peer) else { continue };
                    if contact.add_wants(wants, full) {
                        tracing::debug!(%peer, "takes no wants in");
                        self.give_up(peer, false, now);
                    } else {
                        self.talkative.insert(peer);
                    }
                }
                Action::Block { sessions, block, from } => {
                    for line in sessions.iter().filter_map(|id| self.sessions.get(id)) {
                        line.deliver(block.clone(), from);
                    }
                }
                Action::Exhausted { session, cids } => {
                    if let Some(line) = self.sessions.get(&session) {
                        line.exhausted(&cids);
                    }
                }
            }
        }
        while self.lookups < MAX_LOOKUPS
            && let Some(lookup) = self.server.next_lookup()
        {
            self.lookups += 1;
            let (store, events) = (self.store.clone(), self.events.clone());
            task::spawn(async move {
                let found = lookup::look_up(&store, &lookup).await;
                let _ = events.send(Event::LookedUp { lookup, found }).await;
            });
        }
        while self.dialling.len() < MAX_DIALS
            && let Some(peer) = self.to_dial.pop_front()
        {
            self.dialling.insert(peer);
            let open = self.streams.open_stream(peer, StreamProtocol::new(PROTOCOL));
            let events = self.events.clone();
            task::spawn(async move {
                let stream = open.await;
                let _ = events.send(Event::Dialled { peer, stream }).await;
            });
        }
        while let Some(peer) = self.talkative.pop_first() {
            let Some(contact) = self.contacts.get(&peer) else { continue };
            if contact.has_something_to_say() && contact.writer.is_none() {
                self.start_writer(peer, None);
            }
            if let Some(contact) = self.contacts.get_mut(&peer) {
                contact.write();
            }
        }
    }

    fn start_writer(&mut self, peer: PeerId, stream: Option<Stream>) {
        let Some(contact) = self.contacts.get_mut(&peer) else { return };
        let (queue, outgoing) = mpsc::channel(WRITE_QUEUE);
        self.writers += 1;
        contact.writer = Some(WriterHandle::new(self.writers, queue));
        let writer = Writer::new(self.streams.clone(), peer, stream);
        task::spawn(writer.run(self.writers, outgoing, self.events.clone()));
    }

    fn read(&mut self, peer: PeerId, stream: Stream) {
        // It opened a stream, so it is connected, even if the watch does not say so yet.
        let contact = self.contacts.entry(peer).or_default();
        if contact.limited {
            return; // dropping the stream resets it
        }
        let (count, gate) = self.readers.entry(peer).or_insert_with(|| (0, self.gate.another()));
        *count += 1;
        let (gate, asking) = (gate.clone(), self.asking.clone());
        task::spawn(reader::read(peer, stream, gate, asking, self.events.clone()));
    }

    /// The timer stays as it is while what it waits for is the same: setting one costs a call into
    /// the browser.
    fn set_timer(&mut self) {
        let now = self.now();
        let retries = self.contacts.values().filter_map(|contact| contact.retry_at);
        let retry = retries.filter(|at| *at > now).min();
        let due = self.client.deadline().into_iter().chain(retry).min();
        if due != self.timer.as_ref().map(|(at, _)| *at) {
            self.timer = due.map(|at| (at, Box::pin(time::sleep_until(self.started + at))));
        }
    }

    fn end(self) {
        self.hub.close();
        let opened = std::mem::take(&mut *lock(&self.hub.opened));
        for line in self.sessions.values().chain(&opened) {
            line.end();
        }
        lock(&self.hub.stats_callers).clear();
    }
}

async fn next_change(changes: &mut Option<Changes>) -> Option<Change> {
    match changes {
        Some(changes) => changes.next().await,
        None => pending().await,
    }
}
