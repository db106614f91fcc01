//! The chain of sources: where content is looked for, in which order, and when to go on.
//!
//! [`chain`], [`strategy`] and [`metrics`] are pure. A [`Fetch`] drives one chain over [`Source`]s:
//! wants in, verified blocks out.

mod bitswap_source;
pub mod chain;
mod driven;
mod driver;
mod fetcher;
mod finders;
mod local;
pub mod metrics;
mod peers;
mod reach;
pub mod source;
pub mod strategy;
mod webapp_source;

pub use self::{
    bitswap_source::{BitswapSource, NetworkSource},
    driver::Fetch,
    fetcher::{FetchError, Fetched, Fetcher, Wrong},
    finders::{DhtProviders, RouterProviders},
    metrics::{MAX_TRUST, Metrics, PeerMetrics},
    peers::{FindProviders, Judge, LikelyHolders},
    source::{FetchRequest, Source, SourceEvent, SourceKind, SourceSession},
    strategy::{PeerScore, PeerScoreInput, Strategy},
    webapp_source::WebappSource,
};
