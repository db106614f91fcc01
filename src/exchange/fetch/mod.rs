//! The chain of sources: where content is looked for, in which order, and when to go on.
//!
//! [`chain`], [`strategy`] and [`metrics`] are pure. A [`Fetch`] drives one chain over [`Source`]s:
//! wants in, verified blocks out.

pub mod chain;
mod driven;
mod fetcher;
mod local;
pub mod metrics;
mod reach;
pub mod source;
pub mod strategy;
mod webapp_source;

pub use self::{
    fetcher::{Fetch, FetchError, Fetched, Fetcher, Wrong},
    metrics::{MAX_TRUST, Metrics, PeerMetrics},
    source::{FetchRequest, Source, SourceEvent, SourceKind, SourceSession},
    strategy::{PeerScore, PeerScoreInput, Strategy},
    webapp_source::WebappSource,
};
