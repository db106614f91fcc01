//! The driver of the chain: one [`Fetch`] is wants in, verified blocks out. It runs while it is
//! polled, so a reader that stops reading stops the sources too; dropping it ends all that it does.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    task::{Context, Poll},
};

use cid::Cid;

use super::{
    chain::{Chain, ChainConfig, SourceId, Step},
    fetcher::{FetchError, Fetched, Fetcher, Wrong},
    local::{Found, Hash, Local},
    source::{FetchRequest, SourceEvent, SourceKind, SourceSession},
};
use crate::{
    content::block::Block,
    platform::{
        BoxFuture,
        time::{self, Duration, Instant},
    },
    store::StoreError,
};

/// Events taken from the sources in one go, before the caller gets its turn.
const MAX_EVENTS: usize = 64;

/// One fetch. After an error it is over.
pub struct Fetch {
    fetcher: Fetcher,
    request: FetchRequest,
    timeout: Duration,
    started: Instant,
    chain: Chain,
    sessions: Vec<Option<Box<dyn SourceSession>>>,
    /// Wanted and not handed out yet, by multihash: a source may know a block by another CID.
    needed: HashMap<Hash, Vec<Cid>>,
    local: Local,
    look_up: Option<BoxFuture<Result<Found, StoreError>>>,
    /// Wakes when the chain has something to do.
    timer: Option<(Duration, BoxFuture<()>)>,
    ready: VecDeque<Fetched>,
    wrong: Option<Wrong>,
    failure: Option<FetchError>,
    /// Which source is polled first: each in its turn.
    next_source: SourceId,
}

impl Fetch {
    pub(super) fn new(fetcher: Fetcher, request: FetchRequest) -> Self {
        let config = &fetcher.inner.config;
        let order: &[SourceKind] = match &request.preferred_sources[..] {
            [] => &config.sources,
            preferred => preferred,
        };
        let kinds: Vec<_> =
            fetcher.inner.sources.iter().map(|source| source.kind()).enumerate().collect();
        let chain = ChainConfig {
            patience: config.patience,
            source_timeout: request.source_timeout.unwrap_or(config.source_timeout),
            timeout: request.timeout.or(config.timeout),
        };
        Self {
            chain: Chain::new(config.strategy.stages(&kinds, order), chain),
            timeout: chain.timeout.unwrap_or_default(),
            sessions: fetcher.inner.sources.iter().map(|_| None).collect(),
            local: Local::new(fetcher.inner.store.clone()),
            fetcher,
            request,
            started: Instant::now(),
            needed: HashMap::new(),
            look_up: None,
            timer: None,
            ready: VecDeque::new(),
            wrong: None,
            failure: None,
            next_source: 0,
        }
    }

    pub fn request(&self) -> &FetchRequest {
        &self.request
    }

    /// Wants blocks; what is stored here already comes from there.
    pub fn want(&mut self, cids: &[Cid]) {
        let mut ask = Vec::new();
        for cid in cids {
            if let Some(block) = Block::inline(cid) {
                self.ready.push_back(Fetched::Block { block, stored: true });
                continue;
            }
            let same = self.needed.entry(*cid.hash()).or_default();
            if same.contains(cid) {
                continue;
            }
            same.push(*cid);
            if same.len() == 1 && !self.local.want(*cid) {
                ask.push(*cid);
            }
        }
        if !ask.is_empty() {
            self.chain.want(&ask, self.started.elapsed());
        }
    }

    /// The caller has just looked: it is not stored here.
    pub fn set_absent(&mut self, cid: &Cid) {
        self.local.set_absent(cid);
    }

    /// These will be wanted: learns in one go which of them are not here.
    pub fn foresee(&mut self, cids: impl IntoIterator<Item = Cid>) {
        self.local.foresee(cids);
    }

    pub fn cancel(&mut self, cids: &[Cid]) {
        for cid in cids {
            self.needed.remove(cid.hash());
        }
        self.local.cancel(cids);
        self.chain.cancel(cids);
    }

    /// How many blocks are wanted and not handed out.
    pub fn outstanding(&self) -> usize {
        self.needed.len()
    }

    /// The next block or progress; `None`: nothing is wanted. Losing the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Fetched>, FetchError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Fetched>, FetchError>> {
        loop {
            if let Some(fetched) = self.ready.pop_front() {
                return Poll::Ready(Ok(Some(fetched)));
            }
            if let Some(failure) = &self.failure {
                return Poll::Ready(Err(failure.clone()));
            }
            if self.needed.is_empty() {
                return Poll::Ready(Ok(None));
            }
            let mut moved = self.poll_look_up(cx);
            self.take_steps();
            moved |= self.poll_sources(cx);
            self.take_steps();
            moved |= self.poll_timer(cx);
            self.take_steps();
            if !moved && self.ready.is_empty() && self.failure.is_none() {
                return Poll::Pending;
            }
        }
    }

    fn poll_look_up(&mut self, cx: &mut Context<'_>) -> bool {
        if self.look_up.is_none() {
            self.look_up = self.local.look_up();
        }
        let Some(look_up) = &mut self.look_up else { return false };
        let Poll::Ready(found) = look_up.as_mut().poll(cx) else { return false };
        self.look_up = None;
        match found {
            Ok(found) => {
                self.local.learn(&found);
                for block in found.blocks {
                    self.hand_out(&block, true);
                }
                // What came from elsewhere in the meantime is needed no more.
                let needed = |cid: &Cid| self.needed.contains_key(cid.hash());
                let missing: Vec<Cid> = found.missing.into_iter().filter(needed).collect();
                self.chain.want(&missing, self.started.elapsed());
            }
            Err(error) => self.failure = Some(FetchError::Here(error.into())),
        }
        true
    }

    fn poll_sources(&mut self, cx: &mut Context<'_>) -> bool {
        let count = self.sessions.len();
        let mut events = 0;
        for turn in 0..count {
            let source = (self.next_source + turn) % count;
            while events < MAX_EVENTS
                && let Some(Some(session)) = self.sessions.get_mut(source)
                && let Poll::Ready(event) = session.poll_next(cx)
            {
                events += 1;
                self.on_event(source, event);
                self.take_steps();
            }
        }
        self.next_source = self.next_source.wrapping_add(1) % count.max(1);
        events > 0
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.chain.deadline() else {
            self.timer = None;
            return false;
        };
        let now = self.started.elapsed();
        if deadline <= now {
            self.chain.tick(now);
            return true;
        }
        // One that wakes too early is set again; so a deadline that moves on costs nothing.
        if self.timer.as_ref().is_none_or(|(at, _)| *at > deadline) {
            self.timer = Some((deadline, Box::pin(time::sleep(deadline - now))));
        }
        let woken =
            self.timer.as_mut().is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
        if woken {
            self.timer = None;
        }
        woken
    }

    fn on_event(&mut self, source: SourceId, event: Option<SourceEvent>) {
        let now = self.started.elapsed();
        match event {
            Some(SourceEvent::Block { block, from }) => {
                if let Some(peer) = from {
                    self.fetcher.delivered(peer, block.data().len());
                }
                self.local.arrived(block.cid());
                self.chain.alive(source, now);
                let cids = self.needed.get(block.cid().hash()).cloned();
                for cid in cids.iter().flatten() {
                    self.chain.received(source, cid, now);
                }
                if cids.is_none() {
                    self.ready.push_back(Fetched::Extra(block));
                } else {
                    self.hand_out(&block, false);
                }
            }
            Some(SourceEvent::Missing { cids, reason }) => {
                self.chain.missing(source, &cids, &reason, now);
            }
            Some(SourceEvent::Failed { reason }) => self.chain.failed(source, &reason, now),
            Some(SourceEvent::Progress { done, total }) => {
                self.chain.alive(source, now);
                self.ready.push_back(Fetched::Progress { done, total });
            }
            Some(SourceEvent::Wrong { peer, cid, reason }) => {
                self.fetcher.misbehaved(peer);
                self.wrong.get_or_insert(Wrong { peer, cid, reason });
            }
            Some(SourceEvent::Broken(error)) => self.failure = Some(FetchError::Here(error)),
            None => {
                self.chain.failed(source, "it ended", now);
                if let Some(session) = self.sessions.get_mut(source) {
                    *session = None;
                }
            }
        }
    }

    fn hand_out(&mut self, block: &Block, stored: bool) {
        for cid in self.needed.remove(block.cid().hash()).unwrap_or_default() {
            if let Some(block) = under(cid, block) {
                self.ready.push_back(Fetched::Block { block, stored });
            }
        }
    }

    fn take_steps(&mut self) {
        while let Some(step) = self.chain.next_step() {
            match step {
                Step::Open { source } => {
                    let opened = self.fetcher.inner.sources.get(source);
                    if let (Some(opened), Some(session)) = (opened, self.sessions.get_mut(source)) {
                        *session = Some(opened.open(&self.request));
                    }
                }
                Step::Ask { source, cids } => self.with(source, |session| session.want(&cids)),
                Step::Cancel { source, cids } => {
                    self.with(source, |session| session.cancel(&cids));
                }
                Step::Close { source } => {
                    if let Some(session) = self.sessions.get_mut(source) {
                        *session = None;
                    }
                }
                Step::NotFound { cids } => {
                    let cid = cids.first().copied().unwrap_or(self.request.root);
                    let (asked, wrong) = (self.asked(), self.wrong.clone());
                    self.failure.get_or_insert(FetchError::NotFound { cid, asked, wrong });
                }
                Step::TimedOut => {
                    let (after, asked) = (self.timeout, self.asked());
                    self.failure.get_or_insert(FetchError::TimedOut { after, asked });
                }
            }
        }
    }

    fn with(&mut self, source: SourceId, act: impl FnOnce(&mut dyn SourceSession)) {
        if let Some(Some(session)) = self.sessions.get_mut(source) {
            act(&mut **session);
        }
    }

    /// Who was asked, and what came of it.
    fn asked(&self) -> Vec<String> {
        let sources = &self.fetcher.inner.sources;
        let text = |(id, reason): (SourceId, Option<&str>)| {
            let name = sources.get(id).map(|source| source.name()).unwrap_or_default();
            format!("{name}: {}", reason.unwrap_or("no answer"))
        };
        self.chain.asked().map(text).collect()
    }
}

/// The same bytes under the CID by which they are wanted.
fn under(cid: Cid, block: &Block) -> Option<Block> {
    if cid == *block.cid() {
        return Some(block.clone());
    }
    let digest = cid.hash().digest().try_into().ok()?;
    Block::verify_digest(cid, digest, block.data().clone()).ok()
}
