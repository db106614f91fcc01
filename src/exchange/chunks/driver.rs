//! Runs a [`Coordinator`] over Bitswap, HTTP and a store: one task for each download. Each seeder has
//! a Bitswap session of its own that asks nobody else.

mod act;
mod plan;
mod tell;

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    ops::Range,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, StreamExt as _, future::AbortHandle, stream::FuturesUnordered};
use multihash::Multihash;
use tokio::sync::mpsc;

use self::tell::Told;
use super::{
    ChunkKeeper, Control, DownloadEnd, Seeder,
    coordinator::{ChunkId, Coordinator, Failure, Outcome, SeederId},
    events::EventSender,
    outline::{Outline, OutlineError},
};
use crate::boxmap::BoxMap;
use crate::{
    content::block::{Block, Cid},
    error::{Error, Result},
    exchange::bitswap::{Bitswap, Session, SessionEvent},
    network::NetworkError,
    platform::{
        BoxFuture,
        time::{Duration, Instant, sleep},
    },
};

/// Blocks on their way into the store; while there are as many, none is taken from the network.
const MAX_KEEPING: usize = 16;
/// Pieces of HTTP answers that are told about and not yet heard; further ones are not told.
const PROGRESS_QUEUE: usize = 64;
/// The longest wait without a deadline.
const IDLE: Duration = Duration::from_secs(3600);

/// One download.
pub(super) struct Run {
    names: (Arc<str>, Arc<str>),
    seeders: Vec<Seeder>,
    sessions: Vec<Session>,
    /// Which session is asked first for what has come.
    turn: usize,
    coordinator: Coordinator,
    units: Vec<Unit>,
    by_hash: HashMap<Multihash<64>, ChunkId>,
    outline: Option<Outline>,
    http: FuturesUnordered<BoxFuture<Fetched>>,
    fetching: BoxMap<ChunkId, AbortHandle>,
    pieces: (mpsc::Sender<Piece>, mpsc::Receiver<Piece>),
    keeping: FuturesUnordered<BoxFuture<Kept>>,
    /// Of each block in `keeping`.
    being_kept: Vec<ChunkId>,
    events: EventSender,
    untold: VecDeque<Told>,
    control: Arc<Control>,
    started: Instant,
}

/// `None`: it was stopped.
type Fetched = (ChunkId, SeederId, Option<Result<Block, Failure>>);
type Piece = (ChunkId, SeederId, u64);
type Kept = (ChunkId, SeederId, Result<()>);

/// A block to get: a chunk, or a node above the chunks.
struct Unit {
    cid: Cid,
    size: u64,
    /// Where in the file it stands; nowhere if it is a node.
    indexes: Vec<u32>,
    range: Option<Range<u64>>,
}

enum Next {
    Control,
    Tick,
    Session(SeederId, Option<SessionEvent>),
    Fetched(Fetched),
    Piece(Piece),
    Kept(Kept),
    Room,
}

impl Run {
    pub(super) fn new(
        bitswap: &Bitswap,
        seeders: Vec<Seeder>,
        (file_hash, path): (String, String),
        events: EventSender,
        control: Arc<Control>,
    ) -> Result<Self> {
        let mut sessions = Vec::with_capacity(seeders.len());
        for seeder in &seeders {
            let session = bitswap.session().map_err(|error| match error {
                NetworkError::TooMany { .. } => Error::Busy { what: "Bitswap sessions" },
                _ => Error::Closed,
            })?;
            session.providers_only(true);
            session.add_provider(seeder.peer, 1.0);
            sessions.push(session);
        }
        Ok(Self {
            names: (file_hash.into(), path.into()),
            coordinator: Coordinator::new(seeders.iter().map(|seeder| seeder.http_url.is_some())),
            seeders,
            sessions,
            turn: 0,
            units: Vec::new(),
            by_hash: HashMap::new(),
            outline: None,
            http: FuturesUnordered::new(),
            fetching: BoxMap::new(),
            pieces: mpsc::channel(PROGRESS_QUEUE),
            keeping: FuturesUnordered::new(),
            being_kept: Vec::new(),
            events,
            untold: VecDeque::new(),
            control,
            started: Instant::now(),
        })
    }

    pub(super) fn file_hash(&self) -> &str {
        &self.names.0
    }

    /// Goes on until all that was added is stored, or cannot be had.
    async fn settle(&mut self, keeper: &Arc<dyn ChunkKeeper>, root: Cid) -> Result<DownloadEnd> {
        self.obey();
        self.coordinator.tick(self.now());
        loop {
            self.act();
            self.tell();
            if let Outcome::Cancelled = self.coordinator.outcome() {
                // Who cancels need not listen any more.
                self.untold.clear();
            }
            if self.untold.is_empty() && self.keeping.is_empty() {
                match self.coordinator.outcome() {
                    Outcome::Running => {}
                    Outcome::Complete => return Ok(DownloadEnd::Complete),
                    Outcome::Cancelled => return Ok(DownloadEnd::Cancelled),
                    Outcome::Failed { chunk, reasons } => {
                        return Err(self.not_found(root, *chunk, reasons));
                    }
                }
            }
            match self.next().await {
                Next::Control => self.obey(),
                Next::Room => {}
                Next::Tick => self.coordinator.tick(self.now()),
                Next::Session(_, None) => return Err(Error::Closed),
                Next::Session(seeder, Some(SessionEvent::Block { block, .. })) => {
                    self.arrived(keeper, seeder, block)?;
                }
                Next::Session(seeder, Some(SessionEvent::Exhausted { cids })) => {
                    self.exhausted(seeder, cids);
                }
                Next::Fetched((_, _, None)) => {}
                Next::Fetched((chunk, seeder, Some(fetched))) => {
                    self.fetching.remove(&chunk);
                    match fetched {
                        Ok(block) => self.arrived(keeper, seeder, block)?,
                        Err(why) => self.coordinator.failed(chunk, seeder, why, self.now()),
                    }
                }
                Next::Piece((chunk, seeder, bytes)) => {
                    self.coordinator.progress(chunk, seeder, self.now());
                    self.progress(chunk, bytes);
                }
                Next::Kept((chunk, seeder, kept)) => {
                    kept?;
                    self.being_kept.retain(|other| *other != chunk);
                    self.coordinator.succeeded(chunk, seeder, self.now());
                }
            }
        }
    }

    async fn next(&mut self) -> Next {
        let wait = match self.coordinator.deadline() {
            Some(deadline) => deadline.saturating_sub(self.now()),
            None => IDLE,
        };
        let control = self.control.clone();
        let mut changed = Box::pin(control.changed.notified());
        let mut timer = Box::pin(sleep(wait));
        poll_fn(|cx| {
            if changed.poll_unpin(cx).is_ready() {
                return Poll::Ready(Next::Control);
            }
            // While the listener is behind, nothing else goes on.
            if !self.untold.is_empty() {
                return self.events.poll_room(cx).map(|()| Next::Room);
            }
            match self.poll_news(cx) {
                Poll::Pending => timer.poll_unpin(cx).map(|()| Next::Tick),
                ready => ready,
            }
        })
        .await
    }

    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Poll::Ready(Some(kept)) = self.keeping.poll_next_unpin(cx) {
            return Poll::Ready(Next::Kept(kept));
        }
        if self.keeping.len() >= MAX_KEEPING {
            return Poll::Pending;
        }
        let count = self.sessions.len();
        for i in 0..count {
            let seeder = (self.turn + i) % count;
            let Some(session) = self.sessions.get_mut(seeder) else { continue };
            if let Poll::Ready(event) = session.poll_next(cx) {
                self.turn = seeder + 1;
                return Poll::Ready(Next::Session(seeder, event));
            }
        }
        if let Poll::Ready(Some(piece)) = self.pieces.1.poll_recv(cx) {
            return Poll::Ready(Next::Piece(piece));
        }
        match self.http.poll_next_unpin(cx) {
            Poll::Ready(Some(fetched)) => Poll::Ready(Next::Fetched(fetched)),
            _ => Poll::Pending,
        }
    }

    fn obey(&mut self) {
        let (wish, now) = (self.control.wish(), self.now());
        if wish.cancelled {
            self.coordinator.cancel(now);
        } else if wish.paused != self.coordinator.is_paused() {
            if wish.paused { self.coordinator.pause(now) } else { self.coordinator.resume(now) }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.fetching.values().for_each(AbortHandle::abort);
    }
}

fn bad_file(cid: Cid, error: &OutlineError) -> Error {
    Error::BadContent { cid, reason: error.to_string() }
}
