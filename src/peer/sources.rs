//! Which sources this peer has, in which order they are asked by default.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    error::Result,
    exchange::{
        config::ExchangeConfig,
        fetch::{Fetcher, Metrics, Source, WebappSource, chain::MAX_SOURCES},
    },
    network::Network,
    platform::time::Duration,
    store::Store,
};

pub(super) async fn fetcher(
    network: &Network,
    store: &Store,
    config: ExchangeConfig,
) -> Result<(Fetcher, Arc<Mutex<Metrics>>)> {
    let shared = Arc::new(Mutex::new(Metrics::default()));
    for (peer, trust) in &config.trust {
        metrics(&shared).set_trust(*peer, *trust, Duration::ZERO);
    }
    let own = config.own_sources.0.clone();
    let mut sources: Vec<Arc<dyn Source>> =
        vec![Arc::new(WebappSource::new(network.clone(), store.clone()))];
    sources.retain(|source| own.iter().all(|other| other.kind() != source.kind()));
    sources.extend(own);
    sources.truncate(MAX_SOURCES);
    Ok((Fetcher::new(store.clone(), sources, config, shared.clone()), shared))
}

pub(super) fn metrics(metrics: &Mutex<Metrics>) -> MutexGuard<'_, Metrics> {
    metrics.lock().unwrap_or_else(PoisonError::into_inner)
}
