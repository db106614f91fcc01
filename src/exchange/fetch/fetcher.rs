//! What the fetches of one peer have in common, and what comes of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cid::Cid;
use libp2p::PeerId;

use super::{
    Metrics,
    driver::Fetch,
    source::{FetchRequest, Source},
};
use crate::{
    content::block::Block,
    error::Error,
    exchange::config::ExchangeConfig,
    platform::time::{Duration, Instant},
    store::Store,
};

/// What fetches of one peer have in common.
#[derive(Clone)]
pub struct Fetcher {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub store: Store,
    pub sources: Vec<Arc<dyn Source>>,
    pub config: ExchangeConfig,
    metrics: Arc<Mutex<Metrics>>,
    started: Instant,
}

impl Fetcher {
    pub fn new(
        store: Store,
        sources: Vec<Arc<dyn Source>>,
        config: ExchangeConfig,
        metrics: Arc<Mutex<Metrics>>,
    ) -> Self {
        let started = Instant::now();
        Self { inner: Arc::new(Inner { store, sources, config, metrics, started }) }
    }

    /// Starts a fetch; it asks nobody before something is wanted.
    pub fn fetch(&self, request: FetchRequest) -> Fetch {
        Fetch::new(self.clone(), request)
    }

    pub fn config(&self) -> &ExchangeConfig {
        &self.inner.config
    }

    /// Since the fetcher was made: the time that the metrics go by.
    pub fn elapsed(&self) -> Duration {
        self.inner.started.elapsed()
    }

    pub(super) fn delivered(&self, peer: PeerId, bytes: usize) {
        let now = self.elapsed();
        self.metrics().delivered(peer, bytes, now);
    }

    pub(super) fn misbehaved(&self, peer: PeerId) {
        let now = self.elapsed();
        self.metrics().failed(peer, now);
    }

    fn metrics(&self) -> MutexGuard<'_, Metrics> {
        self.inner.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a fetch hands out.
#[derive(Debug)]
pub enum Fetched {
    /// One that was wanted, under the CID by which it was wanted.
    Block { block: Block, stored: bool },
    /// One that nobody wants yet, but that came along and belongs to the root. Store it: when it is
    /// wanted, it is looked for there.
    Extra(Block),
    /// A source is busy with the whole of it.
    Progress { done: u64, total: Option<u64> },
}

/// A peer that sent something else than what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub peer: PeerId,
    pub cid: Cid,
    pub reason: String,
}

/// Why a fetch ends without what was wanted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// Everybody was asked: each with its reason.
    #[error("not found")]
    NotFound { cid: Cid, asked: Vec<String>, wrong: Option<Wrong> },
    #[error("timed out")]
    TimedOut { after: Duration, asked: Vec<String> },
    /// Something failed on this side.
    #[error(transparent)]
    Here(Error),
}
