//! Runs a [`Coordinator`] over Bitswap, HTTP and a store: one task for each download. Each seeder has
//! a Bitswap session of its own that asks nobody else.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::poll_fn,
    ops::Range,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{AbortHandle, abortable},
    stream::FuturesUnordered,
};
use multihash::Multihash;
use tokio::sync::mpsc;

use super::{
    ChunkKeeper, Control, DownloadEnd, Seeder,
    coordinator::{ATTEMPTS, Action, ChunkId, Coordinator, Failure, Outcome, SeederId, Via},
    events::{ChunkEvent, EventSender},
    http::HttpChunk,
    outline::{Outline, OutlineError},
};
use crate::{
    content::block::{Block, Cid},
    error::{Error, Result},
    exchange::bitswap::{Bitswap, Session, SessionEvent},
    platform::{
        BoxFuture,
        time::{Duration, Instant, sleep},
    },
};

/// Chunks whose presence is looked up at a time.
const LOOK_UP: usize = 1024;
/// Blocks on their way into the store; while there are as many, none is taken from the network.
const MAX_KEEPING: usize = 16;
/// Pieces of HTTP answers that are told about and not yet heard; further ones are not told.
const PROGRESS_QUEUE: usize = 64;
/// The longest wait without a deadline.
const IDLE: Duration = Duration::from_secs(3600);
/// Characters of a reason that are told.
const MAX_REASON: usize = 200;

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
    fetching: BTreeMap<ChunkId, AbortHandle>,
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

/// Something to tell about each place of a unit.
struct Told {
    unit: ChunkId,
    what: What,
    /// Places told already.
    from: usize,
}

enum What {
    Started(SeederId),
    Complete,
    Failed(String),
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
            let session = bitswap.session().map_err(|_| Error::Closed)?;
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
            fetching: BTreeMap::new(),
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

    /// Gets one chunk.
    pub(super) async fn chunk(
        &mut self,
        keeper: &Arc<dyn ChunkKeeper>,
        cid: Cid,
        index: u32,
        range: Option<Range<u64>>,
    ) -> Result<DownloadEnd> {
        let size = range.as_ref().map_or(1 << 20, |range| range.end.saturating_sub(range.start));
        let unit = Unit { cid, size, indexes: vec![index], range };
        let stored = Block::inline(&cid).is_some() || keeper.has_many(vec![cid]).await? == [true];
        self.add(unit, stored)?;
        self.settle(keeper, cid).await
    }

    /// Gets all of a file.
    pub(super) async fn file(
        &mut self,
        keeper: &Arc<dyn ChunkKeeper>,
        root: Cid,
    ) -> Result<DownloadEnd> {
        self.outline = Some(Outline::new(root));
        while let Some(outline) = self.outline.as_mut().filter(|outline| !outline.is_done()) {
            for (cid, size) in outline.wants() {
                match keeper.get(cid).await? {
                    Some(block) => self.supply(&block)?,
                    None => {
                        self.add(Unit { cid, size, indexes: Vec::new(), range: None }, false)?
                    }
                }
            }
            if let DownloadEnd::Cancelled = self.settle(keeper, root).await? {
                return Ok(DownloadEnd::Cancelled);
            }
        }
        let leaves = self.outline.take().map_or(Ok(Vec::new()), |outline| outline.leaves());
        let mut chunks: Vec<Unit> = Vec::new();
        let mut places: HashMap<Multihash<64>, usize> = HashMap::new();
        for (index, leaf) in (0u32..).zip(leaves.map_err(|error| bad_file(root, &error))?) {
            let place = *places.entry(*leaf.cid.hash()).or_insert(chunks.len());
            match chunks.get_mut(place) {
                Some(chunk) => chunk.indexes.push(index),
                None => {
                    let (cid, size, range) = (leaf.cid, leaf.size, leaf.range);
                    chunks.push(Unit { cid, size, indexes: vec![index], range });
                }
            }
        }
        drop(places);
        let mut chunks = chunks.into_iter().peekable();
        while chunks.peek().is_some() {
            let some: Vec<Unit> = chunks.by_ref().take(LOOK_UP).collect();
            let stored = keeper.has_many(some.iter().map(|chunk| chunk.cid).collect()).await?;
            for (unit, stored) in some.into_iter().zip(stored) {
                let stored = stored || Block::inline(&unit.cid).is_some();
                self.add(unit, stored)?;
            }
        }
        self.settle(keeper, root).await
    }

    fn add(&mut self, unit: Unit, stored: bool) -> Result<()> {
        let hash = *unit.cid.hash();
        let reason = || Error::BadContent { cid: unit.cid, reason: "too many chunks".to_owned() };
        let chunk = self.coordinator.add(unit.size, stored).ok_or_else(reason)?;
        if !stored {
            self.by_hash.insert(hash, chunk);
        }
        self.units.push(unit);
        Ok(())
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

    /// Does what the coordinator says.
    fn act(&mut self) {
        while let Some(action) = self.coordinator.next_action() {
            match action {
                Action::Begin { chunk, seeder } => self.note(chunk, What::Started(seeder)),
                // It has come already and is on its way into the store.
                Action::Ask { chunk, .. } if self.being_kept.contains(&chunk) => {}
                Action::Ask { chunk, seeder, via: Via::Bitswap } => {
                    if let (Some(unit), Some(session)) = self.of(chunk, seeder) {
                        session.request(&[unit.cid]);
                    }
                }
                Action::Ask { chunk, seeder, via: Via::Http } => self.fetch(chunk, seeder),
                Action::Stop { chunk, seeder } => {
                    if let (Some(unit), Some(session)) = self.of(chunk, seeder) {
                        session.withdraw(&[unit.cid]);
                    }
                    if let Some(fetch) = self.fetching.remove(&chunk) {
                        fetch.abort();
                    }
                }
                Action::GaveUp { chunk, seeder, reason } => {
                    let peer = self.seeders.get(seeder).map(|seeder| seeder.peer.to_string());
                    let peer = peer.unwrap_or_default();
                    let reason = format!("peer {peer}, {ATTEMPTS} attempts: {reason}");
                    self.note(chunk, What::Failed(reason));
                }
                Action::Done { chunk } => {
                    if let Some(unit) = self.units.get(chunk)
                        && self.by_hash.get(unit.cid.hash()) == Some(&chunk)
                    {
                        self.by_hash.remove(unit.cid.hash());
                    }
                    self.note(chunk, What::Complete);
                }
            }
        }
    }

    fn of(&self, chunk: ChunkId, seeder: SeederId) -> (Option<&Unit>, Option<&Session>) {
        (self.units.get(chunk), self.sessions.get(seeder))
    }

    fn fetch(&mut self, chunk: ChunkId, seeder: SeederId) {
        let (Some(unit), Some(from)) = (self.units.get(chunk), self.seeders.get(seeder)) else {
            return;
        };
        let url = from.http_url.as_deref().unwrap_or_default();
        let (cid, pieces) = (unit.cid, self.pieces.0.clone());
        let planned = HttpChunk::new(url, &cid, unit.range.as_ref());
        let (work, abort) = abortable(async move {
            let plan = planned.map_err(|reason| Failure::Attempt(reason.to_owned()))?;
            plan.fetch(cid, |bytes| {
                // What finds no room is told with the next piece.
                let _ = pieces.try_send((chunk, seeder, bytes));
            })
            .await
        });
        self.fetching.insert(chunk, abort);
        self.http.push(Box::pin(work.map(move |fetched| {
            let fetched = fetched.ok().map(|result| result.map_err(shortened));
            (chunk, seeder, fetched)
        })));
    }

    fn arrived(
        &mut self,
        keeper: &Arc<dyn ChunkKeeper>,
        seeder: SeederId,
        block: Block,
    ) -> Result<()> {
        let Some(&chunk) = self.by_hash.get(block.cid().hash()) else { return Ok(()) };
        let Some(unit) = self.units.get_mut(chunk) else { return Ok(()) };
        if self.being_kept.contains(&chunk) {
            return Ok(());
        }
        let len = block.data().len() as u64;
        unit.size = len;
        let (cid, is_node) = (unit.cid, unit.indexes.is_empty());
        if is_node {
            self.supply(&block)?;
        } else if block.links().is_ok_and(|links| !links.is_empty()) {
            let reason = "it has links where its file's nodes announce a leaf".to_owned();
            return Err(Error::BadContent { cid, reason });
        }
        self.progress(chunk, len);
        self.being_kept.push(chunk);
        let keeping = keeper.keep(block);
        self.keeping.push(Box::pin(keeping.map(move |kept| (chunk, seeder, kept))));
        Ok(())
    }

    fn supply(&mut self, block: &Block) -> Result<()> {
        let Some(outline) = &mut self.outline else { return Ok(()) };
        outline.supply(block).map_err(|error| bad_file(*block.cid(), &error))
    }

    fn exhausted(&mut self, seeder: SeederId, cids: Vec<Cid>) {
        if let Some(session) = self.sessions.get(seeder) {
            session.withdraw(&cids);
        }
        let now = self.now();
        for cid in cids {
            let Some(&chunk) = self.by_hash.get(cid.hash()) else { continue };
            // A fetch by HTTP is another attempt than the one that failed.
            if !self.fetching.contains_key(&chunk) && !self.being_kept.contains(&chunk) {
                let why = "it does not have it by Bitswap or cannot be reached".to_owned();
                self.coordinator.failed(chunk, seeder, Failure::Attempt(why), now);
            }
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

    fn progress(&self, chunk: ChunkId, bytes_received: u64) {
        let Some(unit) = self.units.get(chunk) else { return };
        if let Some(&chunk_index) = unit.indexes.first() {
            let (file_hash, total_bytes) = (self.names.0.clone(), unit.size.max(bytes_received));
            let event =
                ChunkEvent::Progress { file_hash, chunk_index, bytes_received, total_bytes };
            self.events.send(event);
        }
    }

    fn note(&mut self, unit: ChunkId, what: What) {
        self.untold.push_back(Told { unit, what, from: 0 });
    }

    /// Tells what there is room for.
    fn tell(&mut self) {
        while let Some(told) = self.untold.front_mut() {
            let unit = self.units.get(told.unit);
            let index = unit.and_then(|unit| Some((unit.cid, *unit.indexes.get(told.from)?)));
            let Some((cid, chunk_index)) = index else {
                self.untold.pop_front();
                continue;
            };
            if !self.events.has_room() {
                return;
            }
            told.from += 1;
            let (file_hash, path) = self.names.clone();
            let event = match &told.what {
                What::Started(seeder) => {
                    let Some(seeder) = self.seeders.get(*seeder) else { continue };
                    ChunkEvent::Started { file_hash, chunk_index, cid, peer: seeder.peer }
                }
                What::Complete => ChunkEvent::Complete { file_hash, chunk_index, path },
                What::Failed(error) => {
                    ChunkEvent::Failed { file_hash, chunk_index, error: error.clone() }
                }
            };
            self.events.send(event);
        }
    }

    fn not_found(&self, root: Cid, chunk: ChunkId, reasons: &[(SeederId, String)]) -> Error {
        let what = match self.units.get(chunk) {
            Some(unit) if unit.cid != root => format!("block {} of {root}", unit.cid),
            _ => format!("block {root}"),
        };
        let peer = |id: SeederId| self.seeders.get(id).map(|seeder| seeder.peer.to_string());
        let asked = reasons.iter().filter_map(|(id, why)| Some(format!("{}: {why}", peer(*id)?)));
        Error::NotFound { what, asked: asked.collect() }
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

/// What servers say may be long.
fn shortened(failure: Failure) -> Failure {
    let cut = |text: String| text.chars().take(MAX_REASON).collect();
    match failure {
        Failure::Attempt(reason) => Failure::Attempt(cut(reason)),
        Failure::Url(reason) => Failure::Url(cut(reason)),
    }
}
