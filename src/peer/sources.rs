//! Which sources this peer has.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::convert;
use crate::{
    config,
    error::{Error, Result},
    exchange::{
        bitswap::Bitswap,
        capabilities::{Capabilities, OwnCapabilities},
        cas::{self, CasSource},
        config::{ExchangeConfig, MAX_SERVERS},
        fetch::{
            BitswapSource, DhtProviders, Fetcher, FindProviders, Judge, LikelyHolders, Metrics,
            NetworkSource, RouterProviders, Source, SourceKind, WebappSource, chain::MAX_SOURCES,
        },
        gateway::{GatewaySource, GatewayUrl},
    },
    network::{Network, PeerStreams, RelaySpec},
    platform::time::Duration,
    store::Store,
};

/// What the exchange of one peer consists of.
pub(super) struct Exchange {
    pub fetcher: Fetcher,
    pub bitswap: Bitswap,
    pub metrics: Arc<Mutex<Metrics>>,
    /// `None`: switched off.
    pub capabilities: Option<Capabilities>,
}

/// Starts to serve, and puts the sources together.
pub(super) async fn start(
    network: &Network,
    store: &Store,
    relays: &[RelaySpec],
    config: ExchangeConfig,
) -> Result<Exchange> {
    let shared = Arc::new(Mutex::new(Metrics::default()));
    for (peer, trust) in &config.trust {
        metrics(&shared).set_trust(*peer, *trust, Duration::ZERO);
    }
    let streams: Arc<dyn PeerStreams> = Arc::new(network.clone());
    let bitswap =
        Bitswap::start(streams.clone(), store.clone()).await.map_err(convert::start_error)?;
    cas::serve(&*streams, store.clone()).await.map_err(convert::start_error)?;

    let capabilities = match config.capabilities {
        true => {
            let own = OwnCapabilities::default();
            let started = Capabilities::start(streams.clone(), own).await;
            Some(started.map_err(convert::start_error)?)
        }
        false => None,
    };
    let likely = capabilities.clone().map(|told| Arc::new(told) as Arc<dyn LikelyHolders>);
    let judge = Judge::new(streams.clone(), shared.clone(), config.strategy.clone());
    let mut finders: Vec<Arc<dyn FindProviders>> = vec![Arc::new(DhtProviders(network.clone()))];
    let routers = urls(&config.routers)?;
    if !routers.is_empty() {
        let network = network.clone();
        finders.push(Arc::new(RouterProviders { network, routers: routers.into() }));
    }
    let mut sources: Vec<Arc<dyn Source>> = vec![
        Arc::new(BitswapSource::new(bitswap.clone(), judge.clone(), likely)),
        Arc::new(WebappSource::new(network.clone(), store.clone(), judge.clone())),
        Arc::new(NetworkSource::new(bitswap.clone(), judge, finders)),
    ];
    // This one asks whoever is connected.
    if !config.strategy.is_private() {
        sources.push(Arc::new(CasSource::new(streams)));
    }
    // A relay that is known by its URL answers there as a gateway too.
    let of_relay = |spec: &RelaySpec| match spec {
        RelaySpec::Url(url) => url.parse().ok(),
        RelaySpec::Address(_) => None,
    };
    let gateway =
        |kind, url: GatewayUrl| Arc::new(GatewaySource::new(kind, url)) as Arc<dyn Source>;
    let relays = relays.iter().filter_map(of_relay);
    sources.extend(relays.map(|url| gateway(SourceKind::Relay, url)));
    let gateways = urls(&config.gateways)?.into_iter();
    sources.extend(gateways.map(|url| gateway(SourceKind::Gateway, url)));

    let own = config.own_sources.0.clone();
    sources.retain(|source| own.iter().all(|other| other.kind() != source.kind()));
    sources.extend(own);
    sources.truncate(MAX_SOURCES);
    let fetcher = Fetcher::new(store.clone(), sources, config, shared.clone());
    Ok(Exchange { fetcher, bitswap, metrics: shared, capabilities })
}

pub(super) fn metrics(metrics: &Mutex<Metrics>) -> MutexGuard<'_, Metrics> {
    metrics.lock().unwrap_or_else(PoisonError::into_inner)
}

fn urls(texts: &[String]) -> Result<Vec<GatewayUrl>> {
    if texts.len() > MAX_SERVERS {
        let reason = format!("more than {MAX_SERVERS}");
        return Err(Error::BadArgument { what: "gateways and routers", reason });
    }
    let parse = |text: &String| {
        text.parse().map_err(|error: crate::exchange::gateway::GatewayUrlError| {
            Error::InvalidAddress { text: config::shown(text), reason: error.to_string() }
        })
    };
    texts.iter().map(parse).collect()
}
