//! Word of new content: what somebody announces on a topic is told to those whom the topic does not reach.
//!
//! A peer that watches a topic takes each update published there ([`message`]) and tells it to its
//! connected peers, over a stream of our own. Whoever is told hears it and passes it on to nobody, so a
//! notice goes one step beyond the topic and no loop can come of it. Nor is a peer told that is on the
//! topic itself.
//!
//! The author of an update is proven by its signature; the source of a notice is its bringer's word
//! ([`Heard`]). [`board`] decides all that, [`driver`] has the streams.

pub mod board;
mod driver;
pub mod message;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cid::Cid;
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::{Notify, broadcast};

use self::{board::Board, message::Notice};
use super::topics::rate::Flow;
use crate::{
    network::{NetworkError, peers::PeerStreams},
    platform::time::{Duration, Instant},
};

/// How long the same of the same source is no news again.
pub const NEWS_FOR: Duration = Duration::from_secs(10 * 60);
/// Pairs of content and source that are remembered for that, of either kind.
pub const MAX_SEEN: usize = 4096;
/// Authors, and neighbours, whose rates are remembered.
pub const MAX_AUTHORS: usize = 1024;
/// Peers that are told, the first ones that are connected.
pub const MAX_LISTENERS: usize = 256;
/// Notices that wait for one of them, the oldest give way.
pub const MAX_PENDING: usize = 1024;
/// Peers that are told at the same time.
pub const MAX_TELLING: usize = 16;
/// Attempts to tell a peer the same.
pub const MAX_TRIES: u32 = 3;
/// A peer is told at most this often.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Events that the app has not taken, the oldest give way.
pub const MAX_QUEUED: usize = 256;
/// Updates that are taken of one author
pub const AUTHOR_FLOW: Flow = Flow::of_messages(16, 1024);
/// and of all.
pub const TOTAL_FLOW: Flow = AUTHOR_FLOW.times(4);
/// What is taken of one neighbour: more than one of ours has to tell.
pub const NEIGHBOUR_FLOW: Flow = TOTAL_FLOW.times(2);

/// That there is content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentAvailable {
    pub hash: Cid,
    /// Who announced it.
    pub source: PeerId,
    pub heard: Heard,
}

/// How it came to be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// From the source itself, on this topic.
    Topic(Arc<str>),
    /// From this connected peer, which says that it heard it from the source.
    Peer(PeerId),
}

/// A handle. It ends when the last one is dropped or the network is closed.
#[derive(Clone)]
pub struct Availability {
    shared: Arc<Shared>,
    /// Dropped with the last handle, which wakes the driver.
    _alive: Arc<Alive>,
}

/// What is heard from now on, in order.
pub struct Notices(Option<broadcast::Receiver<ContentAvailable>>);

struct Shared {
    state: Mutex<State>,
    wake: Notify,
    started: Instant,
}

struct State {
    board: Board,
    /// The topics that are watched, one entry for each watch.
    watched: Vec<Arc<str>>,
    /// `None`: it has ended.
    news: Option<broadcast::Sender<ContentAvailable>>,
}

struct Alive(Arc<Shared>);

/// A topic counts as watched until this is dropped.
pub struct Watched {
    shared: Arc<Shared>,
    topic: Arc<str>,
}

impl Availability {
    /// Starts to listen to what other peers tell.
    pub async fn start(streams: Arc<dyn PeerStreams>) -> Result<Self, NetworkError> {
        let incoming = streams.accept(StreamProtocol::new(message::PROTOCOL)).await?;
        let news = Some(broadcast::Sender::new(MAX_QUEUED));
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                board: Board::new(Duration::ZERO),
                watched: Vec::new(),
                news,
            }),
            wake: Notify::new(),
            started: Instant::now(),
        });
        driver::spawn(streams, incoming, shared.clone());
        Ok(Self { _alive: Arc::new(Alive(shared.clone())), shared })
    }

    pub fn notices(&self) -> Notices {
        Notices(self.shared.state().news.as_ref().map(broadcast::Sender::subscribe))
    }

    /// Takes what `source` has published on a topic. Whether it is news; then it should be
    /// [passed on](Self::pass_on).
    pub fn heard(&self, topic: &Arc<str>, source: PeerId, hash: Cid) -> bool {
        let now = self.shared.now();
        let mut state = self.shared.state();
        let is_news = state.board.heard(Notice { hash, source }, now);
        if is_news {
            state.tell_app(ContentAvailable { hash, source, heard: Heard::Topic(topic.clone()) });
        }
        is_news
    }

    /// Takes what this peer publishes itself. Whether others are to be told.
    pub fn said(&self, source: PeerId, hash: Cid) -> bool {
        let now = self.shared.now();
        self.shared.state().board.heard(Notice { hash, source }, now)
    }

    /// That somebody here watches a topic. There are no more of them than subscriptions.
    pub fn watched(&self, topic: Arc<str>) -> Watched {
        self.shared.state().watched.push(topic.clone());
        Watched { shared: self.shared.clone(), topic }
    }

    pub fn is_watched(&self, topic: &str) -> bool {
        self.shared.state().watched.iter().any(|watched| **watched == *topic)
    }

    /// Tells the connected peers, in the background, except those on the topic.
    pub fn pass_on(&self, source: PeerId, hash: Cid, members: &[PeerId]) {
        self.shared.state().board.pass_on(Notice { hash, source }, members);
        self.shared.wake.notify_one();
    }
}

impl Notices {
    /// The next one, and how many before it were dropped because they were not taken in time; `None` when
    /// the peer was closed.
    pub async fn next(&mut self) -> Option<(ContentAvailable, u64)> {
        let (receiver, mut missed) = (self.0.as_mut()?, 0);
        loop {
            match receiver.recv().await {
                Ok(available) => return Some((available, missed)),
                Err(broadcast::error::RecvError::Lagged(count)) => missed += count,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

impl State {
    fn tell_app(&self, available: ContentAvailable) {
        if let Some(news) = &self.news {
            // Nobody need listen.
            let _ = news.send(available);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(at) = state.watched.iter().position(|watched| *watched == self.topic) {
            state.watched.swap_remove(at);
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.state().news = None;
        self.0.wake.notify_one();
    }
}

impl std::fmt::Debug for Availability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Availability").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watched").field(&self.topic).finish()
    }
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").finish_non_exhaustive()
    }
}
