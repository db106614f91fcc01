//! Settings of the exchange: where content is looked for, in which order, and how long.

use std::{fmt, sync::Arc};

use libp2p::PeerId;

use super::fetch::{Source, SourceKind, Strategy};
use crate::platform::time::Duration;

/// Without any sign of life for this long, the next stage of the chain is asked as well.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// A source that owes blocks and gives no sign of life for this long is left. As long as a stream
/// may stall.
pub const SOURCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Most gateways, and most routers.
pub const MAX_SERVERS: usize = 16;

/// How content is fetched.
#[derive(Debug, Clone)]
pub struct ExchangeConfig {
    /// Which kinds of sources there are, first asked first. What is stored here always comes first.
    pub sources: Vec<SourceKind>,
    /// Base URLs of public trustless gateways; none unless somebody names one.
    pub gateways: Vec<String>,
    /// Base URLs of delegated routers; none unless somebody names one.
    pub routers: Vec<String>,
    pub strategy: Strategy,
    /// How much a peer is trusted, for the strategies: 0 (not at all) to 10.
    pub trust: Vec<(PeerId, f64)>,
    pub patience: Duration,
    /// Per source.
    pub source_timeout: Duration,
    /// For a whole call; `None`: as long as something arrives.
    pub timeout: Option<Duration>,
    /// Whether to tell other peers what this one can and has, and to ask them.
    pub capabilities: bool,
    /// An app's own sources; where it has one of a kind, the built-in ones of that kind are left out.
    pub own_sources: OwnSources,
}

/// Sources that an app brings.
#[derive(Clone, Default)]
pub struct OwnSources(pub Vec<Arc<dyn Source>>);

impl fmt::Debug for OwnSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|source| source.name())).finish()
    }
}

impl Default for ExchangeConfig {
    fn default() -> Self {
        Self {
            sources: SourceKind::ALL.to_vec(),
            gateways: Vec::new(),
            routers: Vec::new(),
            strategy: Strategy::default(),
            trust: Vec::new(),
            patience: PATIENCE,
            source_timeout: SOURCE_TIMEOUT,
            timeout: None,
            capabilities: true,
            own_sources: OwnSources::default(),
        }
    }
}
