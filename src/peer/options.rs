//! Options of the peer's calls.

use std::{sync::Arc, time::Duration};

use libp2p::PeerId;

use super::{ProgressSink, fetch::Listeners};
use crate::{
    content::{block::Cid, profile::Profile},
    exchange::fetch::{FetchRequest, SourceKind},
};

/// Options of [`super::Peer::store_file`].
#[derive(Default)]
pub struct StoreOptions<'a> {
    pub profile: Profile,
    /// Size of the source, if known, for progress only.
    pub total: Option<u64>,
    pub progress: Option<&'a dyn ProgressSink>,
}

/// Options of [`super::Peer::list_files`].
#[derive(Default, Clone)]
pub struct ListOptions {
    /// For the whole call; without it a list may take as long as bytes keep arriving.
    pub timeout: Option<Duration>,
}

/// Options of [`super::Peer::find_peer`].
#[derive(Default, Clone)]
pub struct FindOptions {
    /// For the whole call; without it, as long as the DHT takes.
    pub timeout: Option<Duration>,
}

/// Options of [`super::Peer::get_file`].
#[derive(Default, Clone)]
pub struct GetOptions {
    /// For the whole call; without it a transfer may take as long as bytes keep arriving.
    pub timeout: Option<Duration>,
    /// Without a sign of life for this long a source is left; `None`: as configured.
    pub source_timeout: Option<Duration>,
    pub progress: Option<Arc<dyn ProgressSink>>,
    /// Which kinds of sources may be asked, in this order; empty: the configured ones.
    pub sources: Vec<SourceKind>,
    /// Hops that others may go on our behalf.
    pub ttl: Option<u32>,
    /// Who asks, as a DID.
    pub requester: Option<String>,
}

/// Options of [`super::Peer::open_file`] and [`super::Peer::resolve_path`].
#[derive(Default, Clone)]
pub struct OpenOptions {
    /// A peer that should have it, asked even if it is not connected.
    pub fallback: Option<PeerId>,
    pub get: GetOptions,
}

impl GetOptions {
    pub(super) fn request(&self, root: Cid, fallback: Option<PeerId>) -> FetchRequest {
        FetchRequest {
            root,
            fallback,
            preferred_sources: self.sources.clone(),
            ttl: self.ttl,
            requester: self.requester.clone(),
            timeout: self.timeout,
            source_timeout: self.source_timeout,
        }
    }

    pub(super) fn progress(&self) -> Arc<dyn ProgressSink> {
        self.progress.clone().unwrap_or_else(|| Arc::new(Listeners::default()))
    }
}
